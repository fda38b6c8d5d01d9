// Integers of any width and queues on AMD Vitis HLS, and under g++ with the same vendor's ap_types headers.
//
// integer<width, is_signed>   two's complement or unsigned integer of exactly `width` bits
// sint<width>, uint<width>    the same, spelled short
// stream<T>                   a queue between two processes, with read() and write()
//
// What the library relies on: +, - and * return a type that holds every result; << and >> keep the type of the
// left operand and >> rounds towards minus infinity; a conversion to fewer bits keeps the low ones.
#ifndef METRONN_PLATFORM_VITIS_HPP
#define METRONN_PLATFORM_VITIS_HPP

#ifndef AP_INT_MAX_W
#define AP_INT_MAX_W 4096
#endif
#if defined(__GNUC__) && !defined(__clang__)
// the vendor's default constructor masks bits that it has not set yet
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <ap_int.h>
#include <hls_stream.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace metronn {

template <int width, bool is_signed>
struct integer_of {
  typedef ap_int<width> type;
};

template <int width>
struct integer_of<width, false> {
  typedef ap_uint<width> type;
};

template <int width, bool is_signed>
using integer = typename integer_of<width, is_signed>::type;

template <int width>
using sint = integer<width, true>;

template <int width>
using uint = integer<width, false>;

template <typename T>
using stream = hls::stream<T>;

}  // namespace metronn

#endif
