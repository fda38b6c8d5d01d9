// Activations that need no table: Extremum with zero.
//
//   y[k] = max(x[k] << cfg::x_shift(k), 0)
//
// A configuration has n (elements), work_t (holds every input after its shift) and x_shift(k).
#ifndef METRONN_ACTIVATION_HPP
#define METRONN_ACTIVATION_HPP

#include "platform.hpp"

namespace metronn {

template <typename cfg, typename in_t, typename out_t>
void relu(const in_t x[cfg::n], out_t y[cfg::n]) {
#pragma HLS INLINE
  static_assert(cfg::n > 0, "relu: empty shape");
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    const typename cfg::work_t value = typename cfg::work_t(x[k]) << cfg::x_shift(k);
    y[k] = value < 0 ? out_t(0) : out_t(value);
  }
}

}  // namespace metronn

#endif
