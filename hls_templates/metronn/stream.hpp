// Tensors that travel in beats: some elements at a time, in an order that is fixed and known.
//
//   beat         the elements that travel together; a beat that carries fewer than its slots holds 0 in the last ones
//   map_beats    one beat out for one of each input: cfg::apply(out.slot, in.slot ...)
//   map_rows     the same for a beat that is cfg::copies rows, one after another: apply takes a row
//   fork_beats   the same beats twice: a stream has one reader
//   copy_beats   the same beats once
//   drain_beats  reads and forgets: a stream has one reader
//
// A configuration has beats (per event), interval (cycles from one beat to the next), apply; for rows also copies.
#ifndef METRONN_STREAM_HPP
#define METRONN_STREAM_HPP

#include "metronn/platform.hpp"

namespace metronn {

template <typename T, int n>
struct beat {
  typedef T element_t;
  static const int slots = n;
  T slot[n];
};

template <typename beat_t>
void clear(beat_t &some) {
#pragma HLS INLINE
Slots:
  for (int k = 0; k < beat_t::slots; k++) {
#pragma HLS UNROLL
    some.slot[k] = 0;
  }
}

template <typename cfg, typename out_t, typename... in_t>
inline void apply_to(out_t &out, const in_t &...in) {
#pragma HLS INLINE
  cfg::apply(out.slot, in.slot...);
}

template <typename cfg, typename out_t, typename... in_t>
void map_beats(stream<out_t> &y, stream<in_t> &...x) {
  static_assert(cfg::beats > 0, "map_beats: no beats");
Beats:
  for (int b = 0; b < cfg::beats; b++) {
#pragma HLS PIPELINE II = cfg::interval
    out_t out;
    apply_to<cfg>(out, x.read()...);
    y.write(out);
  }
}

template <typename cfg, typename out_t, typename x_t>
void map_rows(stream<out_t> &y, stream<x_t> &x) {
  static_assert(cfg::beats > 0 && cfg::copies > 0, "map_rows: no beats");
  static_assert(x_t::slots % cfg::copies == 0 && out_t::slots % cfg::copies == 0, "map_rows: a beat is no whole rows");
  const int n_in = x_t::slots / cfg::copies;
  const int n_out = out_t::slots / cfg::copies;
Beats:
  for (int b = 0; b < cfg::beats; b++) {
#pragma HLS PIPELINE II = cfg::interval
    const x_t in = x.read();
    out_t out;
  Rows:
    for (int copy = 0; copy < cfg::copies; copy++) {
#pragma HLS UNROLL
      beat<typename x_t::element_t, n_in> from;
      beat<typename out_t::element_t, n_out> made;
    Inputs:
      for (int k = 0; k < n_in; k++) {
#pragma HLS UNROLL
        from.slot[k] = in.slot[copy * n_in + k];
      }
      apply_to<cfg>(made, from);
    Outputs:
      for (int k = 0; k < n_out; k++) {
#pragma HLS UNROLL
        out.slot[copy * n_out + k] = made.slot[k];
      }
    }
    y.write(out);
  }
}

template <int beats, typename beat_t>
void fork_beats(stream<beat_t> &x, stream<beat_t> &first, stream<beat_t> &second) {
Beats:
  for (int b = 0; b < beats; b++) {
#pragma HLS PIPELINE II = 1
    const beat_t in = x.read();
    first.write(in);
    second.write(in);
  }
}

template <int beats, typename beat_t>
void copy_beats(stream<beat_t> &x, stream<beat_t> &y) {
Beats:
  for (int b = 0; b < beats; b++) {
#pragma HLS PIPELINE II = 1
    y.write(x.read());
  }
}

template <int beats, typename beat_t>
void drain_beats(stream<beat_t> &x) {
Beats:
  for (int b = 0; b < beats; b++) {
#pragma HLS PIPELINE II = 1
    x.read();
  }
}

}  // namespace metronn

#endif
