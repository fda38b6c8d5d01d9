// Chooses the vendor's integer types. Every other header of the library names integers through this one.
//
// Kernels of arrays are inlined into the function that calls them and take its pipeline, but for matrix products, which
// are functions of their own.
//
// METRONN_PLATFORM is the header of the vendor, platform_vitis.hpp unless the compiler is told otherwise.
#ifndef METRONN_PLATFORM_HPP
#define METRONN_PLATFORM_HPP

#ifndef METRONN_PLATFORM
#define METRONN_PLATFORM "platform_vitis.hpp"
#endif
#include METRONN_PLATFORM

#endif
