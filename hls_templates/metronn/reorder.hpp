// The same elements in other beats: joins, crops, splits, padding and permutations of streams.
//
// gather_beats    all elements in one beat: slot cfg::place(b, s) of the result is slot s of beat b
// reorder_beats   in each step beats may be read and one may leave. Of each stream the last cfg::depth beats are kept,
//                 in registers: every slot of the result chooses among cfg::choices(s) of them
// remember_beats  the same with a small memory for each slot, which is read at one place a step
//
// A configuration of gather_beats has beats, interval, filled(b), place(b, s).
// One of the others has
//   steps             iterations per event
//   streams           number of streams
//   slots, depth      slots of all streams together, and beats of each that are kept; a power of 2 for remember_beats
//   takes(p, step)    whether a beat of stream p is read
//   leaves(step)      whether a beat leaves, and which: number(step)
//   most              the largest number of choices
//   choices(s)        how many things slot s of the result carries over an event
//   from(s, c)        what choice c is: a slot, counted over all streams; -1: it is cfg::fill()
//   ago(s, c)         for reorder_beats: how many beats of that stream have been read since
//   choice(b, s)      which choice it is in beat b
//   age(b, s)         for remember_beats: how many beats of that stream have been read since
//   stream_of(k)      the stream of a slot counted over all streams
//   fill()            what stands where nothing does
#ifndef METRONN_REORDER_HPP
#define METRONN_REORDER_HPP

#include "constant.hpp"
#include "stream.hpp"

namespace metronn {

template <typename cfg, typename in_q, typename out_q>
void gather_beats(in_q &x, out_q &y) {
  typedef typename beat_of<in_q>::type in_t;
  typedef typename beat_of<out_q>::type out_t;
  static_assert(cfg::beats > 1, "gather_beats: a single beat");
  out_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
Beats:
  for (int b = 0; b < cfg::beats; b++) {
#pragma HLS PIPELINE II = cfg::interval rewind style = frp
    const in_t in = read_beat(x);
#pragma HLS ARRAY_PARTITION variable = in.slot type = complete
  Turn:
    for (int turn = 0; turn < cfg::beats; turn++) {
#pragma HLS UNROLL
    Slots:
      for (int s = 0; s < in_t::slots; s++) {
#pragma HLS UNROLL
        if (b == turn && s < cfg::filled(turn)) {
          out.slot[cfg::place(turn, s)] = typename out_t::element_t(in.slot[s]);
        }
      }
    }
    if (b == cfg::beats - 1) write_beat(y, out);
  }
}

// Reads the streams whose turn it is into registers; `offset` is the first slot of the stream `number`.
template <typename cfg, int number, int offset, typename element_t>
inline void shift_beats(element_t[cfg::slots][cfg::depth], int) {
#pragma HLS INLINE
  static_assert(offset == cfg::slots && number == cfg::streams, "reorder_beats: other streams than configured");
}

template <typename cfg, int number, int offset, typename element_t, typename in_q, typename... rest_q>
inline void shift_beats(element_t past[cfg::slots][cfg::depth], int step, in_q &x, rest_q &...rest) {
#pragma HLS INLINE
  typedef typename beat_of<in_q>::type in_t;
  if (cfg::takes(number, step)) {
    const in_t in = read_beat(x);
#pragma HLS ARRAY_PARTITION variable = in.slot type = complete
  Slots:
    for (int s = 0; s < in_t::slots; s++) {
#pragma HLS UNROLL
    Past:
      for (int k = cfg::depth - 1; k > 0; k--) {
#pragma HLS UNROLL
        past[offset + s][k] = past[offset + s][k - 1];
      }
      past[offset + s][0] = element_t(in.slot[s]);
    }
  }
  shift_beats<cfg, number + 1, offset + in_t::slots>(past, step, rest...);
}

template <typename cfg, typename out_q, typename... in_q>
void reorder_beats(out_q &y, in_q &...x) {
  typedef typename beat_of<out_q>::type out_t;
  typedef typename out_t::element_t element_t;
  static_assert(cfg::steps > 1 && cfg::depth > 0 && cfg::streams > 0, "reorder_beats: nothing to do");
  element_t past[cfg::slots][cfg::depth];
#pragma HLS ARRAY_PARTITION variable = past type = complete dim = 0
Steps:
  for (int step = 0; step < cfg::steps; step++) {
#pragma HLS PIPELINE II = 1 rewind style = frp
    shift_beats<cfg, 0, 0>(past, step, x...);
    if (cfg::leaves(step)) {
      const int b = cfg::number(step);
      out_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
    Slots:
      for (int s = 0; s < out_t::slots; s++) {
#pragma HLS UNROLL
        element_t value = 0;
      Choices:
        for (int c = 0; c < cfg::most; c++) {
#pragma HLS UNROLL
          if (c < cfg::choices(s) && cfg::choice(b, s) == c) {
            value = cfg::from(s, c) < 0 ? element_t(cfg::fill()) : past[cfg::from(s, c)][cfg::ago(s, c)];
          }
        }
        out.slot[s] = value;
      }
      write_beat(y, out);
    }
  }
}

// Reads the streams whose turn it is into the memories of their slots, each as often as it is there.
template <typename cfg, int number, int offset, typename element_t>
inline void store_beats(element_t[cfg::copies * cfg::slots][cfg::depth], int,
                        uint<bits_of(cfg::depth - 1)>[cfg::streams]) {
#pragma HLS INLINE
  static_assert(offset == cfg::slots && number == cfg::streams, "remember_beats: other streams than configured");
}

template <typename cfg, int number, int offset, typename element_t, typename in_q, typename... rest_q>
inline void store_beats(element_t ring[cfg::copies * cfg::slots][cfg::depth], int step,
                        uint<bits_of(cfg::depth - 1)> now[cfg::streams], in_q &x, rest_q &...rest) {
#pragma HLS INLINE
  typedef typename beat_of<in_q>::type in_t;
  if (step == 0) now[number] = 0;
  if (cfg::takes(number, step)) {
    const in_t in = read_beat(x);
#pragma HLS ARRAY_PARTITION variable = in.slot type = complete
    now[number]++;
  Slots:
    for (int s = 0; s < in_t::slots; s++) {
#pragma HLS UNROLL
    Copies:
      for (int c = 0; c < cfg::copies; c++) {
#pragma HLS UNROLL
        ring[c * cfg::slots + offset + s][now[number].to_int()] = element_t(in.slot[s]);
      }
    }
  }
  store_beats<cfg, number + 1, offset + in_t::slots>(ring, step, now, rest...);
}

template <typename cfg, typename out_q, typename... in_q>
void remember_beats(out_q &y, in_q &...x) {
  typedef typename beat_of<out_q>::type out_t;
  typedef typename out_t::element_t element_t;
  typedef uint<bits_of(cfg::depth - 1)> place_t;
  static_assert(cfg::steps > 1 && cfg::depth > 1 && cfg::streams > 0, "remember_beats: nothing to do");
  static_assert((cfg::depth & (cfg::depth - 1)) == 0, "remember_beats: the depth is no power of 2");
  element_t ring[cfg::copies * cfg::slots][cfg::depth];
#pragma HLS ARRAY_PARTITION variable = ring type = complete dim = 1
#pragma HLS BIND_STORAGE variable = ring type = ram_s2p impl = lutram
  place_t now[cfg::streams];
#pragma HLS ARRAY_PARTITION variable = now type = complete
Steps:
  for (int step = 0; step < cfg::steps; step++) {
#pragma HLS PIPELINE II = 1 rewind style = frp
    store_beats<cfg, 0, 0>(ring, step, now, x...);
    if (cfg::leaves(step)) {
      const int b = cfg::number(step);
      element_t held[cfg::copies * cfg::slots];
#pragma HLS ARRAY_PARTITION variable = held type = complete
    Reads:
      for (int k = 0; k < cfg::copies * cfg::slots; k++) {
#pragma HLS UNROLL
        held[k] = ring[k][place_t(now[cfg::stream_of(k)] - cfg::age(b, k)).to_int()];
      }
      out_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
    Slots:
      for (int s = 0; s < out_t::slots; s++) {
#pragma HLS UNROLL
        element_t value = 0;
      Choices:
        for (int c = 0; c < cfg::most; c++) {
#pragma HLS UNROLL
          if (c < cfg::choices(s) && cfg::choice(b, s) == c) {
            value = cfg::from(s, c) < 0 ? element_t(cfg::fill()) : held[cfg::from(s, c)];
          }
        }
        out.slot[s] = value;
      }
      write_beat(y, out);
    }
  }
}

}  // namespace metronn

#endif
