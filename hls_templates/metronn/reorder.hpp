// The same elements in other beats: joins, crops, splits, padding and permutations of streams.
//
// gather_beats   all elements in one beat: slot cfg::place(b, s) of the result is slot s of beat b
// reorder_beats  the last cfg::depth beats of each stream are kept; in each step beats are read, and one may leave
//
// A configuration of gather_beats has beats, interval, filled(b), place(b, s).
// One of reorder_beats has
//   steps           iterations per event
//   streams         number of streams
//   slots, depth    slots of all streams together, and beats of each that are kept
//   count(p)        beats of stream p
//   comes(p, b)     the step in which beat b of stream p is read; rising
//   beats, due(b)   beats of the result, and the step in which beat b leaves; rising
//   filled(b)       slots of beat b that carry elements
//   slot(b, s)      where slot s of beat b comes from, counted over all streams; -1: it is cfg::fill()
//   age(b, s)       how many beats of that stream have been read since
//   stream_of(k)    the stream of a slot counted over all streams
//   fill()          what stands where nothing does
#ifndef METRONN_REORDER_HPP
#define METRONN_REORDER_HPP

#include "metronn/constant.hpp"
#include "metronn/stream.hpp"

namespace metronn {

template <typename cfg, typename in_t, typename out_t>
void gather_beats(stream<in_t> &x, stream<out_t> &y) {
  static_assert(cfg::beats > 0, "gather_beats: no beats");
  out_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
Beats:
  for (int b = 0; b < cfg::beats; b++) {
#pragma HLS PIPELINE II = cfg::interval
    const in_t in = x.read();
  Slots:
    for (int s = 0; s < in_t::slots; s++) {
#pragma HLS UNROLL
      if (s < cfg::filled(b)) out.slot[cfg::place(b, s)] = typename out_t::element_t(in.slot[s]);
    }
    if (b == cfg::beats - 1) y.write(out);
  }
}

// Reads the streams whose turn it is; `offset` is the first slot of the stream `number`.
template <typename cfg, int number, int offset, typename element_t>
inline void take_beats(element_t[cfg::slots][cfg::depth], int, int[cfg::streams], int[cfg::streams]) {
#pragma HLS INLINE
  static_assert(offset == cfg::slots && number == cfg::streams, "reorder_beats: other streams than configured");
}

template <typename cfg, int number, int offset, typename element_t, typename in_t, typename... rest_t>
inline void take_beats(element_t ring[cfg::slots][cfg::depth], int step, int taken[cfg::streams],
                       int now[cfg::streams], stream<in_t> &x, stream<rest_t> &...rest) {
#pragma HLS INLINE
  if (taken[number] < cfg::count(number) && step == cfg::comes(number, taken[number])) {
    const in_t in = x.read();
    now[number] = now[number] == cfg::depth - 1 ? 0 : now[number] + 1;
    taken[number]++;
  Slots:
    for (int s = 0; s < in_t::slots; s++) {
#pragma HLS UNROLL
      ring[offset + s][now[number]] = element_t(in.slot[s]);
    }
  }
  take_beats<cfg, number + 1, offset + in_t::slots>(ring, step, taken, now, rest...);
}

template <typename cfg, typename out_t, typename... in_t>
void reorder_beats(stream<out_t> &y, stream<in_t> &...x) {
  static_assert(cfg::steps > 0 && cfg::depth > 0 && cfg::streams > 0, "reorder_beats: nothing to do");
  typedef typename out_t::element_t element_t;
  element_t ring[cfg::slots][cfg::depth];
#pragma HLS ARRAY_PARTITION variable = ring type = complete dim = 1
  int taken[cfg::streams], now[cfg::streams];
#pragma HLS ARRAY_PARTITION variable = taken type = complete
#pragma HLS ARRAY_PARTITION variable = now type = complete
Streams:
  for (int p = 0; p < cfg::streams; p++) {
#pragma HLS UNROLL
    taken[p] = 0;
    now[p] = cfg::depth - 1;
  }
  int b = 0;
Steps:
  for (int step = 0; step < cfg::steps; step++) {
#pragma HLS PIPELINE II = 1
    take_beats<cfg, 0, 0>(ring, step, taken, now, x...);
    if (b < cfg::beats && step == cfg::due(b)) {
      out_t out;
    Slots:
      for (int s = 0; s < out_t::slots; s++) {
#pragma HLS UNROLL
        element_t value = 0;
        if (s < cfg::filled(b)) {
          const int from = cfg::slot(b, s);
          if (from < 0) {
            value = element_t(cfg::fill());
          } else {
            const int then = now[cfg::stream_of(from)] - cfg::age(b, s);
            value = ring[from][then < 0 ? then + cfg::depth : then];
          }
        }
        out.slot[s] = value;
      }
      y.write(out);
      b++;
    }
  }
}

}  // namespace metronn

#endif
