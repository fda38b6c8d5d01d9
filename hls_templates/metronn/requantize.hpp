// Fewer bits: the op Requantize, the one place besides tables where information is lost.
//
//   y[k] = overflow(round(x[k] * 2^-cfg::shift(k)))      modes named as in ap_fixed
//
// A configuration has
//   n                 elements
//   rounding_mode     a rounding
//   overflow_mode     an overflow; `none` where the ranges prove that every rounded value fits
//   work_t            signed; holds the input, the input plus half a step, the rounded value and the bounds
//   shift(k)          fraction bits that element k loses; negative when it gains some
//   lo(k), hi(k)      the bounds of element k, as work_t; for wrap they span 2^n values
#ifndef METRONN_REQUANTIZE_HPP
#define METRONN_REQUANTIZE_HPP

#include "platform.hpp"

namespace metronn {

enum class rounding {
  trn,          // towards minus infinity
  trn_zero,     // towards zero
  rnd,          // nearest, half towards plus infinity
  rnd_zero,     // nearest, half towards zero
  rnd_inf,      // nearest, half away from zero
  rnd_min_inf,  // nearest, half towards minus infinity
  rnd_conv      // nearest, half to even
};

enum class overflow {
  none,      // cannot happen
  wrap,      // modulo the span of the bounds
  sat,       // to the nearer bound
  sat_zero,  // to zero
  sat_sym    // to the nearer bound; the bounds are symmetric
};

// x * 2^-shift, rounded to an integer.
template <rounding mode, typename work_t>
inline work_t round_shift(work_t x, int shift) {
#pragma HLS INLINE
  if (shift < 0) return x << -shift;
  if (shift == 0 || mode == rounding::trn) return x >> shift;
  const work_t one = 1;
  const work_t half = one << (shift - 1);
  const bool negative = x < 0;
  work_t offset = half;  // rnd
  if (mode == rounding::trn_zero) offset = negative ? work_t((one << shift) - 1) : work_t(0);
  if (mode == rounding::rnd_zero) offset = negative ? half : work_t(half - 1);
  if (mode == rounding::rnd_inf) offset = negative ? work_t(half - 1) : half;
  if (mode == rounding::rnd_min_inf) offset = work_t(half - 1);
  if (mode == rounding::rnd_conv) offset = work_t(half - 1 + ((x >> shift) & one));
  return work_t(x + offset) >> shift;
}

// x brought into [lo, hi].
template <overflow mode, typename work_t>
inline work_t bring_into(work_t x, work_t lo, work_t hi) {
#pragma HLS INLINE
  if (mode == overflow::none) return x;
  if (mode == overflow::wrap) return work_t((work_t(x - lo) & work_t(hi - lo)) + lo);
  if (mode == overflow::sat_zero) return (x < lo || hi < x) ? work_t(0) : x;
  return x < lo ? lo : (hi < x ? hi : x);
}

template <typename cfg, typename in_t, typename out_t>
void requantize(const in_t x[cfg::n], out_t y[cfg::n]) {
#pragma HLS INLINE
  static_assert(cfg::n > 0, "requantize: empty shape");
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    typedef typename cfg::work_t work_t;
    const work_t rounded = round_shift<cfg::rounding_mode>(work_t(x[k]), cfg::shift(k));
    y[k] = out_t(bring_into<cfg::overflow_mode>(rounded, cfg::lo(k), cfg::hi(k)));
  }
}

}  // namespace metronn

#endif
