// Chooses the vendor's integer types. Every other header of the library names integers through this one.
//
// METRONN_PLATFORM is the header of the vendor, platform_vitis.hpp unless the compiler is told otherwise.
#ifndef METRONN_PLATFORM_HPP
#define METRONN_PLATFORM_HPP

#ifndef METRONN_PLATFORM
#define METRONN_PLATFORM "metronn/platform_vitis.hpp"
#endif
#include METRONN_PLATFORM

#endif
