// Sliding windows, all at once: the op Window where the whole tensor is there in one cycle.
//
//   y[k] = x[cfg::index(k)], or cfg::fill() where the index is -1: beyond the edge
//
// A configuration has n (elements of the result), n_in (of x), index(k), fill_t and fill().
// window_buffer.hpp makes the same windows of pixels that come one after another.
#ifndef METRONN_WINDOW_HPP
#define METRONN_WINDOW_HPP

#include "constant.hpp"
#include "platform.hpp"

namespace metronn {

template <typename cfg, typename in_t, typename out_t>
void window(const in_t x[cfg::n_in], out_t y[cfg::n]) {
#pragma HLS INLINE
  static_assert(cfg::n > 0 && cfg::n_in > 0, "window: empty shape");
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    const int from = cfg::index(k);
    y[k] = from < 0 ? out_t(cfg::fill()) : out_t(x[from]);
  }
}

}  // namespace metronn

#endif
