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

#include "metronn/stream.hpp"

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

template <typename cfg, typename kind, typename in_t, typename out_t>
void reduce_beats(stream<in_t> &x, stream<out_t> &y) {
  static_assert(cfg::beats > 0, "reduce_beats: no beats");
  typename cfg::acc_t acc[out_t::slots];
#pragma HLS ARRAY_PARTITION variable = acc type = complete
Beats:
  for (int b = 0; b < cfg::beats; b++) {
#pragma HLS PIPELINE II = cfg::interval
    const in_t in = x.read();
    if (b == 0) {
    Start:
      for (int o = 0; o < out_t::slots; o++) {
#pragma HLS UNROLL
        acc[o] = cfg::initial();
      }
    }
  Slots:
    for (int s = 0; s < in_t::slots; s++) {
#pragma HLS UNROLL
      if (s < cfg::filled(b)) {
        const typename cfg::acc_t term = typename cfg::acc_t(in.slot[s]) << cfg::x_shift(b, s);
        acc[cfg::result(b, s)] = kind::combine(acc[cfg::result(b, s)], term);
      }
    }
    if (b == cfg::beats - 1) {
      out_t out;
    Results:
      for (int o = 0; o < out_t::slots; o++) {
#pragma HLS UNROLL
        out.slot[o] = typename out_t::element_t(acc[o]);
      }
      y.write(out);
    }
  }
}

template <typename cfg, typename in_t, typename out_t>
void reduce_sum_beats(stream<in_t> &x, stream<out_t> &y) {
#pragma HLS INLINE
  reduce_beats<cfg, sum_of>(x, y);
}

template <typename cfg, typename in_t, typename out_t>
void reduce_max_beats(stream<in_t> &x, stream<out_t> &y) {
#pragma HLS INLINE
  reduce_beats<cfg, max_of>(x, y);
}

template <typename cfg, typename in_t, typename out_t>
void reduce_min_beats(stream<in_t> &x, stream<out_t> &y) {
#pragma HLS INLINE
  reduce_beats<cfg, min_of>(x, y);
}

}  // namespace metronn

#endif
