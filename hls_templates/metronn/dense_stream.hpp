// Constant matrix times vector, plus bias, on streams: the op Linear folded over the beats of each row.
//
//   y[o] = finish(sum_i x[i] * weight[i][o] + bias[o])       finish: the ops that follow, element by element
//
// fold_outputs_beats  reads one beat, cfg::copies rows one after another; then each cycle `parallel` outputs of each
//                     row. The `remainder` outputs beyond parallel * beats are summed in slices of the inputs and join
//                     the last beat. With parallel = 0 that beat is the only one.
// fold_inputs_beats   each cycle one beat of inputs into all accumulators; one beat of all outputs for `beats` read.
// fold_inputs_stored_beats   the same with the weights in block RAM
//
// A multiplier is one input and `ways` lanes. With ways = 2 it multiplies by high * 2^shift + low, and sums of `group`
// products are split: the low half is a signed number of `shift` bits, what is left over it the high one.
//
// weight[word][beat][k]: what multiplier word * per_word + k holds in each beat. bias[lane][beat].
//
// A configuration has
//   groups               repetitions per event
//   beats                cycles of one group
//   n_in, n_out          inputs of a row, and its outputs
//   parallel, remainder, copies   for fold_outputs_beats, see above
//   lanes                for fold_inputs_beats: slots of an input beat
//   once                 for fold_inputs_beats: slots that carry something in one beat only, with constant weights:
//                        once_slot(k), once_beat(k), once_weight(o, k)
//   ways, group, shift   see above
//   words, per_word      see above
//   site(pair, i), rest_site(pair, i)   multiplier of an input and a pair of lanes; -1: its weights are all 0
//   dsp(pair, i), rest_dsp(pair, i)     whether it is a multiplier; else its weights are powers of 2 and it is logic
//   multipliers          how many there are over all copies, at least 1
//   weight_t, group_t    signed; hold every weight of a multiplier, and every sum of a group
//   acc_t, sum_t         hold every partial sum in any order, every sum
//   finish(beat, sums, results)   for parallel + remainder outputs, or for all of them with fold_inputs_beats
#ifndef METRONN_DENSE_STREAM_HPP
#define METRONN_DENSE_STREAM_HPP

#include "constant.hpp"
#include "stream.hpp"

namespace metronn {

// Which multipliers: of the main lanes, or of the remainder.
struct main_lanes {
  template <typename cfg>
  static int site(int pair, int i) {
#pragma HLS INLINE
    return cfg::site(pair, i);
  }
  template <typename cfg>
  static bool dsp(int pair, int i) {
#pragma HLS INLINE
    return cfg::dsp(pair, i);
  }
};

struct rest_lanes {
  template <typename cfg>
  static int site(int pair, int i) {
#pragma HLS INLINE
    return cfg::rest_site(pair, i);
  }
  template <typename cfg>
  static bool dsp(int pair, int i) {
#pragma HLS INLINE
    return cfg::rest_dsp(pair, i);
  }
};

// Adds the products of a pair of lanes with the `count` inputs from x[offset] to their sums.
template <typename cfg, typename which, int count, typename in_t, typename weight_t>
inline void add_products(const in_t x[], int offset, const weight_t weight[cfg::words][cfg::beats][cfg::per_word],
                         int pair, int beat, typename cfg::acc_t &low, typename cfg::acc_t &high) {
#pragma HLS INLINE
  typedef sint<(cfg::shift > 0 ? cfg::shift : 1)> half_t;
Groups:
  for (int first = 0; first < count; first += cfg::group) {
#pragma HLS UNROLL
    typename cfg::group_t sum = 0;
  Products:
    for (int k = 0; k < cfg::group; k++) {
#pragma HLS UNROLL
      const int i = first + k;
      const int m = i < count ? which::template site<cfg>(pair, i) : -1;
      if (m >= 0) {
        const typename cfg::weight_t word =
            constant<typename cfg::weight_t>(weight[m / cfg::per_word][beat][m % cfg::per_word]);
        if (which::template dsp<cfg>(pair, i)) {
          const auto product = x[offset + i] * word;
#pragma HLS BIND_OP variable = product op = mul impl = dsp
          sum += product;
        } else {
          const auto product = x[offset + i] * word;
#pragma HLS BIND_OP variable = product op = mul impl = fabric
          sum += product;
        }
      }
    }
    if (cfg::ways == 1) {
      low += sum;
    } else {
      const half_t half = half_t(sum);
      low += half;
      high += typename cfg::acc_t((sum - half) >> cfg::shift);
    }
  }
}

template <typename cfg, typename in_q, typename weight_t, typename bias_t, typename out_q>
void fold_outputs_beats(in_q &x, const weight_t weight[cfg::words][cfg::beats][cfg::per_word],
                        const bias_t bias[cfg::parallel + cfg::remainder][cfg::beats], out_q &y) {
  typedef typename beat_of<in_q>::type in_t;
  typedef typename beat_of<out_q>::type out_t;
  static_assert(cfg::groups > 0 && cfg::beats > 1 && cfg::copies > 0, "fold_outputs_beats: nothing to do");
  static_assert(cfg::parallel * cfg::beats + cfg::remainder == cfg::n_out, "fold_outputs_beats: outputs do not add up");
  static_assert(cfg::parallel % cfg::ways == 0, "fold_outputs_beats: the lanes are no whole pairs");
  static_assert(in_t::slots == cfg::copies * cfg::n_in, "fold_outputs_beats: the beats are no whole rows");
  const int width = cfg::parallel + cfg::remainder;
  const int slice = (cfg::n_in + cfg::beats - 1) / cfg::beats;
#pragma HLS ALLOCATION operation instances = mul limit = cfg::multipliers
#pragma HLS ARRAY_PARTITION variable = weight type = complete dim = 1
#pragma HLS ARRAY_RESHAPE variable = weight type = complete dim = 3
#pragma HLS BIND_STORAGE variable = weight type = rom_1p impl = lutram
#pragma HLS ARRAY_PARTITION variable = bias type = complete dim = 1
  in_t held;
#pragma HLS ARRAY_PARTITION variable = held.slot type = complete
  typename cfg::acc_t rest[cfg::copies][cfg::remainder > 0 ? cfg::remainder : 1];
#pragma HLS ARRAY_PARTITION variable = rest type = complete dim = 0
Groups:
  for (int group = 0; group < cfg::groups; group++) {
  Beats:
    for (int beat = 0; beat < cfg::beats; beat++) {
#pragma HLS PIPELINE II = 1 rewind style = frp
      const bool last = beat == cfg::beats - 1;
      if (beat == 0) held = read_beat(x);
      out_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
      clear(out);
    Rows:
      for (int copy = 0; copy < cfg::copies; copy++) {
#pragma HLS UNROLL
        typename cfg::sum_t sum[width];
#pragma HLS ARRAY_PARTITION variable = sum type = complete
        typename out_t::element_t result[width];
#pragma HLS ARRAY_PARTITION variable = result type = complete
        const int row = copy * cfg::n_in;
      Outputs:
        for (int lane = 0; lane < cfg::parallel; lane += cfg::ways) {
#pragma HLS UNROLL
          typename cfg::acc_t low = constant<typename cfg::acc_t>(bias[lane][beat]);
          typename cfg::acc_t high = constant<typename cfg::acc_t>(bias[lane + cfg::ways - 1][beat]);
          add_products<cfg, main_lanes, cfg::n_in>(held.slot, row, weight, lane / cfg::ways, beat, low, high);
          sum[lane] = typename cfg::sum_t(low);
          if (cfg::ways == 2) sum[lane + cfg::ways - 1] = typename cfg::sum_t(high);
        }
        typename in_t::element_t some[slice];
#pragma HLS ARRAY_PARTITION variable = some type = complete
      Slice:
        for (int k = 0; k < slice; k++) {
#pragma HLS UNROLL
          some[k] = 0;
        Turn:
          for (int b = 0; b < cfg::beats; b++) {
#pragma HLS UNROLL
            if (cfg::remainder > 0 && b * slice + k < cfg::n_in && beat == b) some[k] = held.slot[row + b * slice + k];
          }
        }
      Remainder:
        for (int r = 0; r < cfg::remainder; r += cfg::ways) {
#pragma HLS UNROLL
          const int second = r + cfg::ways - 1 < cfg::remainder ? r + cfg::ways - 1 : r;
          typename cfg::acc_t low = rest[copy][r];
          typename cfg::acc_t high = rest[copy][second];
          if (beat == 0) {
            low = constant<typename cfg::acc_t>(bias[cfg::parallel + r][0]);
            high = constant<typename cfg::acc_t>(bias[cfg::parallel + second][0]);
          }
          add_products<cfg, rest_lanes, slice>(some, 0, weight, r / cfg::ways, beat, low, high);
          rest[copy][r] = low;
          sum[cfg::parallel + r] = typename cfg::sum_t(low);
          if (second != r) {
            rest[copy][second] = high;
            sum[cfg::parallel + second] = typename cfg::sum_t(high);
          }
        }
        cfg::finish(beat, sum, result);
      Results:
        for (int k = 0; k < width; k++) {
#pragma HLS UNROLL
          if (last) {
            out.slot[copy * width + k] = result[k];
          } else if (k < cfg::parallel) {
            out.slot[copy * cfg::parallel + k] = result[k];
          }
        }
      }
      if (last || cfg::parallel > 0) write_beat(y, out);
    }
  }
}

template <typename cfg, typename in_q, typename weight_t, typename bias_t, typename out_q>
inline void fold_inputs(in_q &x, const weight_t weight[cfg::words][cfg::beats][cfg::per_word],
                        const bias_t bias[cfg::n_out][1], out_q &y) {
#pragma HLS INLINE
  typedef typename beat_of<in_q>::type in_t;
  typedef typename beat_of<out_q>::type out_t;
  static_assert(cfg::groups > 0 && cfg::beats > 1, "fold_inputs_beats: nothing to do");
  static_assert(in_t::slots == cfg::lanes && out_t::slots == cfg::n_out, "fold_inputs_beats: other beats");
  typename cfg::acc_t acc[cfg::n_out];
#pragma HLS ARRAY_PARTITION variable = acc type = complete
Groups:
  for (int group = 0; group < cfg::groups; group++) {
  Beats:
    for (int beat = 0; beat < cfg::beats; beat++) {
#pragma HLS PIPELINE II = 1 rewind style = frp
      const in_t in = read_beat(x);
#pragma HLS ARRAY_PARTITION variable = in.slot type = complete
      typename cfg::sum_t total[cfg::n_out];
#pragma HLS ARRAY_PARTITION variable = total type = complete
    Outputs:
      for (int o = 0; o < cfg::n_out; o += cfg::ways) {
#pragma HLS UNROLL
        const int second = o + cfg::ways - 1 < cfg::n_out ? o + cfg::ways - 1 : o;
        typename cfg::acc_t low = 0, high = 0;
        add_products<cfg, main_lanes, cfg::lanes>(in.slot, 0, weight, o / cfg::ways, beat, low, high);
      Once:
        for (int k = 0; k < cfg::once; k++) {
#pragma HLS UNROLL
          if (beat == cfg::once_beat(k)) {
            low += in.slot[cfg::once_slot(k)] * cfg::once_weight(o, k);
            if (second != o) high += in.slot[cfg::once_slot(k)] * cfg::once_weight(second, k);
          }
        }
        acc[o] = (beat == 0 ? constant<typename cfg::acc_t>(bias[o][0]) : acc[o]) + low;
        total[o] = typename cfg::sum_t(acc[o]);
        if (second != o) {
          acc[second] = (beat == 0 ? constant<typename cfg::acc_t>(bias[second][0]) : acc[second]) + high;
          total[second] = typename cfg::sum_t(acc[second]);
        }
      }
      if (beat == cfg::beats - 1) {
        out_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
        cfg::finish(beat, total, out.slot);
        write_beat(y, out);
      }
    }
  }
}

template <typename cfg, typename in_q, typename weight_t, typename bias_t, typename out_q>
void fold_inputs_beats(in_q &x, const weight_t weight[cfg::words][cfg::beats][cfg::per_word],
                       const bias_t bias[cfg::n_out][1], out_q &y) {
#pragma HLS ALLOCATION operation instances = mul limit = cfg::multipliers
#pragma HLS ARRAY_PARTITION variable = weight type = complete dim = 1
#pragma HLS ARRAY_RESHAPE variable = weight type = complete dim = 3
#pragma HLS BIND_STORAGE variable = weight type = rom_1p impl = lutram
#pragma HLS ARRAY_PARTITION variable = bias type = complete dim = 1
  fold_inputs<cfg>(x, weight, bias, y);
}

template <typename cfg, typename in_q, typename weight_t, typename bias_t, typename out_q>
void fold_inputs_stored_beats(in_q &x, const weight_t weight[cfg::words][cfg::beats][cfg::per_word],
                              const bias_t bias[cfg::n_out][1], out_q &y) {
#pragma HLS ALLOCATION operation instances = mul limit = cfg::multipliers
#pragma HLS ARRAY_PARTITION variable = weight type = complete dim = 1
#pragma HLS ARRAY_RESHAPE variable = weight type = complete dim = 3
#pragma HLS BIND_STORAGE variable = weight type = rom_1p impl = bram
#pragma HLS ARRAY_PARTITION variable = bias type = complete dim = 1
  fold_inputs<cfg>(x, weight, bias, y);
}

}  // namespace metronn

#endif
