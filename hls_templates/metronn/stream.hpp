// Tensors that travel in beats: some elements at a time, in an order that is fixed and known.
//
//   beat          the elements that travel together; a beat that carries fewer than its slots holds 0 in the last ones
//   part          what one queue of a wide beat carries: queues take 4,096 bits, so a wider beat travels in several
//   map_beats     one beat out for one of each input: cfg::apply(out.slot, in.slot ...)
//   map_rows      the same for a beat that is cfg::copies rows, one after another: apply takes a row
//   fork_beats    the same beats twice: a stream has one reader
//   copy_beats    the same beats once
//   drain_beats   reads and forgets: a stream has one reader
//
// A queue is stream<beat<T, n> >, or stream<part<T, n, words> >[words]. Each process is one loop with nothing before
// it, so that the next event follows the last without a gap. Where an event is a single beat a loop would begin anew
// for each: map_beat, map_row, fork_beat, copy_beat and drain_beat are pipelined functions instead.
//
// A configuration has beats (per event), interval (cycles from one beat to the next), apply; for rows also copies.
#ifndef METRONN_STREAM_HPP
#define METRONN_STREAM_HPP

#include "platform.hpp"

namespace metronn {

template <typename T, int n>
struct beat {
  typedef T element_t;
  static const int slots = n;
  T slot[n];
};

template <typename T, int n, int words>
struct part {
  static const int slots = (n + words - 1) / words;
  T slot[slots];
};

template <typename queue_t>
struct beat_of;

template <typename T, int n>
struct beat_of<stream<beat<T, n> > > {
  typedef beat<T, n> type;
};

template <typename T, int n, int words>
struct beat_of<stream<part<T, n, words> >[words]> {
  typedef beat<T, n> type;
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

template <typename T, int n>
inline beat<T, n> read_beat(stream<beat<T, n> > &x) {
#pragma HLS INLINE
  return x.read();
}

template <typename T, int n, int words>
inline beat<T, n> read_beat(stream<part<T, n, words> > (&x)[words]) {
#pragma HLS INLINE
  const int slots = part<T, n, words>::slots;
  beat<T, n> all;
#pragma HLS ARRAY_PARTITION variable = all.slot type = complete
Words:
  for (int w = 0; w < words; w++) {
#pragma HLS UNROLL
    const part<T, n, words> in = x[w].read();
  Slots:
    for (int k = 0; k < slots; k++) {
#pragma HLS UNROLL
      if (w * slots + k < n) all.slot[w * slots + k] = in.slot[k];
    }
  }
  return all;
}

template <typename T, int n>
inline void write_beat(stream<beat<T, n> > &y, const beat<T, n> &out) {
#pragma HLS INLINE
  y.write(out);
}

template <typename T, int n, int words>
inline void write_beat(stream<part<T, n, words> > (&y)[words], const beat<T, n> &out) {
#pragma HLS INLINE
  const int slots = part<T, n, words>::slots;
Words:
  for (int w = 0; w < words; w++) {
#pragma HLS UNROLL
    part<T, n, words> some;
#pragma HLS ARRAY_PARTITION variable = some.slot type = complete
  Slots:
    for (int k = 0; k < slots; k++) {
#pragma HLS UNROLL
      some.slot[k] = w * slots + k < n ? out.slot[w * slots + k] : T(0);
    }
    y[w].write(some);
  }
}

// Bits of an unsigned integer that holds 0 .. largest.
constexpr int bits_of(long largest) { return largest < 2 ? 1 : 1 + bits_of(largest / 2); }

template <typename cfg, typename out_t, typename... in_t>
inline void apply_to(out_t &out, const in_t &...in) {
#pragma HLS INLINE
  cfg::apply(out.slot, in.slot...);
}

template <typename cfg, typename out_q, typename... in_q>
inline void map_one(out_q &y, in_q &...x) {
#pragma HLS INLINE
  typename beat_of<out_q>::type out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
  apply_to<cfg>(out, read_beat(x)...);
  write_beat(y, out);
}

template <typename cfg, typename out_q, typename... in_q>
void map_beat(out_q &y, in_q &...x) {
#pragma HLS PIPELINE II = 1 style = frp
  static_assert(cfg::beats == 1, "map_beat: several beats");
  map_one<cfg>(y, x...);
}

template <typename cfg, typename out_q, typename... in_q>
void map_beats(out_q &y, in_q &...x) {
  static_assert(cfg::beats > 1, "map_beats: a single beat");
Beats:
  for (int b = 0; b < cfg::beats; b++) {
#pragma HLS PIPELINE II = cfg::interval rewind style = frp
    map_one<cfg>(y, x...);
  }
}

template <typename cfg, typename out_q, typename in_q>
inline void map_rows_of_one(out_q &y, in_q &x) {
#pragma HLS INLINE
  typedef typename beat_of<in_q>::type in_t;
  typedef typename beat_of<out_q>::type out_t;
  static_assert(in_t::slots % cfg::copies == 0 && out_t::slots % cfg::copies == 0, "map_rows: a beat is no whole rows");
  const int n_in = in_t::slots / cfg::copies;
  const int n_out = out_t::slots / cfg::copies;
  const in_t in = read_beat(x);
#pragma HLS ARRAY_PARTITION variable = in.slot type = complete
  out_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
Rows:
  for (int copy = 0; copy < cfg::copies; copy++) {
#pragma HLS UNROLL
    typename in_t::element_t from[n_in];
#pragma HLS ARRAY_PARTITION variable = from type = complete
    typename out_t::element_t made[n_out];
#pragma HLS ARRAY_PARTITION variable = made type = complete
  Inputs:
    for (int k = 0; k < n_in; k++) {
#pragma HLS UNROLL
      from[k] = in.slot[copy * n_in + k];
    }
    cfg::apply(made, from);
  Outputs:
    for (int k = 0; k < n_out; k++) {
#pragma HLS UNROLL
      out.slot[copy * n_out + k] = made[k];
    }
  }
  write_beat(y, out);
}

template <typename cfg, typename out_q, typename in_q>
void map_row(out_q &y, in_q &x) {
#pragma HLS PIPELINE II = 1 style = frp
  static_assert(cfg::beats == 1, "map_row: several beats");
  map_rows_of_one<cfg>(y, x);
}

template <typename cfg, typename out_q, typename in_q>
void map_rows(out_q &y, in_q &x) {
  static_assert(cfg::beats > 1, "map_rows: a single beat");
Beats:
  for (int b = 0; b < cfg::beats; b++) {
#pragma HLS PIPELINE II = cfg::interval rewind style = frp
    map_rows_of_one<cfg>(y, x);
  }
}

template <typename in_q, typename first_q, typename second_q>
void fork_beat(in_q &x, first_q &first, second_q &second) {
#pragma HLS PIPELINE II = 1 style = frp
  const typename beat_of<in_q>::type in = read_beat(x);
  write_beat(first, in);
  write_beat(second, in);
}

template <int beats, typename in_q, typename first_q, typename second_q>
void fork_beats(in_q &x, first_q &first, second_q &second) {
Beats:
  for (int b = 0; b < beats; b++) {
#pragma HLS PIPELINE II = 1 rewind style = frp
    const typename beat_of<in_q>::type in = read_beat(x);
    write_beat(first, in);
    write_beat(second, in);
  }
}

template <typename in_q, typename out_q>
void copy_beat(in_q &x, out_q &y) {
#pragma HLS PIPELINE II = 1 style = frp
  write_beat(y, read_beat(x));
}

template <int beats, typename in_q, typename out_q>
void copy_beats(in_q &x, out_q &y) {
Beats:
  for (int b = 0; b < beats; b++) {
#pragma HLS PIPELINE II = 1 rewind style = frp
    write_beat(y, read_beat(x));
  }
}

template <typename in_q>
void drain_beat(in_q &x) {
#pragma HLS PIPELINE II = 1 style = frp
  read_beat(x);
}

template <int beats, typename in_q>
void drain_beats(in_q &x) {
Beats:
  for (int b = 0; b < beats; b++) {
#pragma HLS PIPELINE II = 1 rewind style = frp
    read_beat(x);
  }
}

}  // namespace metronn

#endif
