// Wires only: the ops Rewire and Constant, and copies. No logic comes of these.
//
//   rewire    y[k] = element cfg::index(k) of all sources laid end to end, or 0 where the index is -1
//   copy      y[k] = x[k]
//   align     y[k] = x[k] << cfg::x_shift(k): one number of fraction bits for all elements
//   load      y[k] = the stored constant k
//
// A configuration has n (elements of the result); rewire also reads index(k), align x_shift(k).
// rewire takes the sizes of the sources as template arguments and the result first.
#ifndef METRONN_REWIRE_HPP
#define METRONN_REWIRE_HPP

#include "constant.hpp"
#include "platform.hpp"

namespace metronn {

// Element k of the sources laid end to end; the source `first` has `size` elements.
template <typename out_t, int size, typename first_t>
inline out_t element_of(int k, const first_t first[]) {
#pragma HLS INLINE
  return out_t(first[k]);
}

template <typename out_t, int size, int next_size, int... sizes, typename first_t, typename... rest_t>
inline out_t element_of(int k, const first_t first[], const rest_t *...rest) {
#pragma HLS INLINE
  return k < size ? out_t(first[k]) : element_of<out_t, next_size, sizes...>(k - size, rest...);
}

template <typename cfg, int... sizes, typename out_t, typename... source_t>
void rewire(out_t y[cfg::n], const source_t *...sources) {
#pragma HLS INLINE
  static_assert(sizeof...(sizes) == sizeof...(source_t), "rewire: each source needs its size");
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    y[k] = cfg::index(k) < 0 ? out_t(0) : element_of<out_t, sizes...>(cfg::index(k), sources...);
  }
}

template <int n, typename in_t, typename out_t>
void copy(const in_t x[n], out_t y[n]) {
#pragma HLS INLINE
Elements:
  for (int k = 0; k < n; k++) {
#pragma HLS UNROLL
    y[k] = out_t(x[k]);
  }
}

template <typename cfg, typename in_t, typename out_t>
void align(const in_t x[cfg::n], out_t y[cfg::n]) {
#pragma HLS INLINE
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    y[k] = out_t(x[k]) << cfg::x_shift(k);
  }
}

template <int n, typename stored_t, typename out_t>
void load(const stored_t stored[n], out_t y[n]) {
#pragma HLS INLINE
Elements:
  for (int k = 0; k < n; k++) {
#pragma HLS UNROLL
    y[k] = constant<out_t>(stored[k]);
  }
}

}  // namespace metronn

#endif
