// Sum, largest or smallest of elements that come in different beats: the op Reduce on a stream.
//
//   y[o] = sum (max, min) of in.slot[s] << cfg::x_shift(b, s) over all b, s with cfg::result(b, s) = o
//
// All results leave in one beat after the last one is read. A configuration has
//   beats, interval   beats read per event, and the cycles from one to the next
//   filled(b)         slots of beat b that carry elements
//   result(b, s)      the result that slot s of beat b belongs to
//   x_shift(b, s)     by how many bits the element moves up to the largest number of fraction bits
//   acc_t             holds every input after its shift, and every partial sum in any order of summation
//   initial()         0 for a sum; for the others a bound of all inputs
#ifndef METRONN_REDUCE_STREAM_HPP
#define METRONN_REDUCE_STREAM_HPP

#include "stream.hpp"

namespace metronn {

struct sum_of {
  template <typename acc_t>
  static acc_t combine(acc_t a, acc_t b) {
#pragma HLS INLINE
    return acc_t(a + b);
  }
};

struct max_of {
  template <typename acc_t>
  static acc_t combine(acc_t a, acc_t b) {
#pragma HLS INLINE
    return a < b ? b : a;
  }
};

struct min_of {
  template <typename acc_t>
  static acc_t combine(acc_t a, acc_t b) {
#pragma HLS INLINE
    return b < a ? b : a;
  }
};

template <typename cfg, typename kind, typename in_q, typename out_q>
inline void reduce_beats(in_q &x, out_q &y) {
#pragma HLS INLINE
  typedef typename beat_of<in_q>::type in_t;
  typedef typename beat_of<out_q>::type out_t;
  static_assert(cfg::beats > 1, "reduce_beats: a single beat");
  typename cfg::acc_t acc[out_t::slots];
#pragma HLS ARRAY_PARTITION variable = acc type = complete
Beats:
  for (int b = 0; b < cfg::beats; b++) {
#pragma HLS PIPELINE II = cfg::interval rewind style = frp
    const in_t in = read_beat(x);
#pragma HLS ARRAY_PARTITION variable = in.slot type = complete
    out_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
  Results:
    for (int o = 0; o < out_t::slots; o++) {
#pragma HLS UNROLL
      // the terms of a beat first: what goes from beat to beat is one step
      typename cfg::acc_t here = cfg::initial();
    Slots:
      for (int s = 0; s < in_t::slots; s++) {
#pragma HLS UNROLL
        if (cfg::result(b, s) == o && s < cfg::filled(b)) {
          here = kind::combine(here, typename cfg::acc_t(typename cfg::acc_t(in.slot[s]) << cfg::x_shift(b, s)));
        }
      }
      acc[o] = b == 0 ? here : kind::combine(acc[o], here);
      out.slot[o] = typename out_t::element_t(acc[o]);
    }
    if (b == cfg::beats - 1) write_beat(y, out);
  }
}

template <typename cfg, typename in_q, typename out_q>
void reduce_sum_beats(in_q &x, out_q &y) {
  reduce_beats<cfg, sum_of>(x, y);
}

template <typename cfg, typename in_q, typename out_q>
void reduce_max_beats(in_q &x, out_q &y) {
  reduce_beats<cfg, max_of>(x, y);
}

template <typename cfg, typename in_q, typename out_q>
void reduce_min_beats(in_q &x, out_q &y) {
  reduce_beats<cfg, min_of>(x, y);
}

}  // namespace metronn

#endif
