// Two tensors, element by element: the ops Add (add, subtract), Multiply and Extremum (maximum, minimum).
//
//   y[k] = f(x[cfg::x_index(k)] << cfg::x_shift(k), y[cfg::y_index(k)] << cfg::y_shift(k))
//
// A configuration has
//   n                          elements of the result
//   x_index(k), y_index(k)     which elements meet in result k: this is how shapes broadcast
//   x_shift(k), y_shift(k)     by how many bits an operand moves up to the larger number of fraction bits; not
//                              read by multiply, whose fraction bits add
//   work_t                     holds both operands after the shift, and the result
#ifndef METRONN_ELEMENTWISE_HPP
#define METRONN_ELEMENTWISE_HPP

#include "platform.hpp"

namespace metronn {

template <typename cfg, typename x_t, typename y_t, typename out_t>
void add(const x_t x[], const y_t y[], out_t sum[cfg::n]) {
#pragma HLS INLINE
  static_assert(cfg::n > 0, "add: empty shape");
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    const typename cfg::work_t a = typename cfg::work_t(x[cfg::x_index(k)]) << cfg::x_shift(k);
    const typename cfg::work_t b = typename cfg::work_t(y[cfg::y_index(k)]) << cfg::y_shift(k);
    sum[k] = out_t(a + b);
  }
}

template <typename cfg, typename x_t, typename y_t, typename out_t>
void subtract(const x_t x[], const y_t y[], out_t difference[cfg::n]) {
#pragma HLS INLINE
  static_assert(cfg::n > 0, "subtract: empty shape");
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    const typename cfg::work_t a = typename cfg::work_t(x[cfg::x_index(k)]) << cfg::x_shift(k);
    const typename cfg::work_t b = typename cfg::work_t(y[cfg::y_index(k)]) << cfg::y_shift(k);
    difference[k] = out_t(a - b);
  }
}

template <typename cfg, typename x_t, typename y_t, typename out_t>
void multiply(const x_t x[], const y_t y[], out_t product[cfg::n]) {
#pragma HLS INLINE
  static_assert(cfg::n > 0, "multiply: empty shape");
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    product[k] = out_t(x[cfg::x_index(k)] * y[cfg::y_index(k)]);
  }
}

template <typename cfg, typename x_t, typename y_t, typename out_t>
void maximum(const x_t x[], const y_t y[], out_t larger[cfg::n]) {
#pragma HLS INLINE
  static_assert(cfg::n > 0, "maximum: empty shape");
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    const typename cfg::work_t a = typename cfg::work_t(x[cfg::x_index(k)]) << cfg::x_shift(k);
    const typename cfg::work_t b = typename cfg::work_t(y[cfg::y_index(k)]) << cfg::y_shift(k);
    larger[k] = a < b ? out_t(b) : out_t(a);
  }
}

template <typename cfg, typename x_t, typename y_t, typename out_t>
void minimum(const x_t x[], const y_t y[], out_t smaller[cfg::n]) {
#pragma HLS INLINE
  static_assert(cfg::n > 0, "minimum: empty shape");
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    const typename cfg::work_t a = typename cfg::work_t(x[cfg::x_index(k)]) << cfg::x_shift(k);
    const typename cfg::work_t b = typename cfg::work_t(y[cfg::y_index(k)]) << cfg::y_shift(k);
    smaller[k] = b < a ? out_t(b) : out_t(a);
  }
}

}  // namespace metronn

#endif
