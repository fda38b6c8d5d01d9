// Sum, largest or smallest along axes: the op Reduce.
//
//   y[o] = sum (max, min) over t of x[cfg::x_index(o, t)] << cfg::x_shift(cfg::x_index(o, t))
//
// A configuration has
//   n_out, n_terms    results, and inputs that make one result
//   acc_t             holds every input after its shift, and every partial sum in any order of summation
//   x_index(o, t)     the t-th input of result o
//   x_shift(k)        by how many bits input k moves up to the largest number of fraction bits
#ifndef METRONN_REDUCE_HPP
#define METRONN_REDUCE_HPP

#include "platform.hpp"

namespace metronn {

template <typename cfg, typename in_t>
inline typename cfg::acc_t reduce_term(const in_t x[], int k) {
#pragma HLS INLINE
  return typename cfg::acc_t(x[k]) << cfg::x_shift(k);
}

template <typename cfg, typename in_t, typename out_t>
void reduce_sum(const in_t x[cfg::n_out * cfg::n_terms], out_t y[cfg::n_out]) {
#pragma HLS INLINE
  static_assert(cfg::n_out > 0 && cfg::n_terms > 0, "reduce_sum: empty shape");
Results:
  for (int o = 0; o < cfg::n_out; o++) {
#pragma HLS UNROLL
    typename cfg::acc_t acc = 0;
  Terms:
    for (int t = 0; t < cfg::n_terms; t++) {
#pragma HLS UNROLL
      acc += reduce_term<cfg>(x, cfg::x_index(o, t));
    }
    y[o] = out_t(acc);
  }
}

template <typename cfg, typename in_t, typename out_t>
void reduce_max(const in_t x[cfg::n_out * cfg::n_terms], out_t y[cfg::n_out]) {
#pragma HLS INLINE
  static_assert(cfg::n_out > 0 && cfg::n_terms > 0, "reduce_max: empty shape");
Results:
  for (int o = 0; o < cfg::n_out; o++) {
#pragma HLS UNROLL
    typename cfg::acc_t best = reduce_term<cfg>(x, cfg::x_index(o, 0));
  Terms:
    for (int t = 1; t < cfg::n_terms; t++) {
#pragma HLS UNROLL
      const typename cfg::acc_t term = reduce_term<cfg>(x, cfg::x_index(o, t));
      if (best < term) best = term;
    }
    y[o] = out_t(best);
  }
}

template <typename cfg, typename in_t, typename out_t>
void reduce_min(const in_t x[cfg::n_out * cfg::n_terms], out_t y[cfg::n_out]) {
#pragma HLS INLINE
  static_assert(cfg::n_out > 0 && cfg::n_terms > 0, "reduce_min: empty shape");
Results:
  for (int o = 0; o < cfg::n_out; o++) {
#pragma HLS UNROLL
    typename cfg::acc_t best = reduce_term<cfg>(x, cfg::x_index(o, 0));
  Terms:
    for (int t = 1; t < cfg::n_terms; t++) {
#pragma HLS UNROLL
      const typename cfg::acc_t term = reduce_term<cfg>(x, cfg::x_index(o, t));
      if (term < best) best = term;
    }
    y[o] = out_t(best);
  }
}

}  // namespace metronn

#endif
