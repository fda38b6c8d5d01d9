// Constant matrix times vector, plus bias, on streams: the op Linear folded over the beats of each row.
//
//   y[o] = finish(sum_i x[i] * weight[o][i] + bias[o])       finish: the ops that follow, element by element
//
// fold_outputs_beats  reads one beat, cfg::copies rows one after another; then each cycle `parallel` outputs of each
//                     row. The `remainder` outputs beyond parallel * beats are summed in slices of the inputs and join
//                     the last beat. With parallel = 0 that beat is the only one.
// fold_inputs_beats   each cycle one beat of inputs into all accumulators; one beat of all outputs for `beats` read.
//                     The weights are in the order of the beats: column beat * lanes + slot, 0 where a slot is empty.
//
// A configuration has
//   groups               repetitions per event
//   n_in, n_out          the shape of the matrix
//   beats                cycles of one group
//   parallel, remainder, copies   for fold_outputs_beats, see above
//   lanes                for fold_inputs_beats: slots of an input beat
//   live, live_rest, multipliers  the multipliers that see a weight other than 0 in some beat; no others are made:
//                        live(lane, input) and live_rest(output, lane) for fold_outputs_beats, live(output, lane) for
//                        fold_inputs_beats, and how many they are, at least 1
//   weight_t, acc_t, sum_t        hold every weight, every partial sum in any order, every sum
//   finish(beat, sums, results)   for parallel + remainder outputs, or for all of them with fold_inputs_beats
#ifndef METRONN_DENSE_STREAM_HPP
#define METRONN_DENSE_STREAM_HPP

#include "metronn/constant.hpp"
#include "metronn/stream.hpp"

namespace metronn {

template <typename cfg, typename in_t, typename weight_t, typename bias_t, typename out_t>
void fold_outputs_beats(stream<in_t> &x, const weight_t weight[cfg::n_out][cfg::n_in], const bias_t bias[cfg::n_out],
                        stream<out_t> &y) {
  static_assert(cfg::groups > 0 && cfg::beats > 0 && cfg::copies > 0, "fold_outputs_beats: nothing to do");
  static_assert(cfg::parallel * cfg::beats + cfg::remainder == cfg::n_out, "fold_outputs_beats: outputs do not add up");
  static_assert(in_t::slots == cfg::copies * cfg::n_in, "fold_outputs_beats: the beats are no whole rows");
  const int width = cfg::parallel + cfg::remainder;
  const int slice = (cfg::n_in + cfg::beats - 1) / cfg::beats;
  static_assert(cfg::multipliers > 0 &&
                    cfg::multipliers <= cfg::copies * (cfg::parallel * cfg::n_in + cfg::remainder * slice),
                "fold_outputs_beats: more multipliers than the loops have");
#pragma HLS ALLOCATION operation instances = mul limit = cfg::multipliers
#pragma HLS ARRAY_RESHAPE variable = weight type = cyclic factor = cfg::parallel dim = 1
#pragma HLS ARRAY_RESHAPE variable = weight type = complete dim = 2
  in_t held;
  typename cfg::acc_t rest[cfg::copies][cfg::remainder > 0 ? cfg::remainder : 1];
#pragma HLS ARRAY_PARTITION variable = rest type = complete dim = 0
  int beat = 0;
Beats:
  for (int step = 0; step < cfg::groups * cfg::beats; step++) {
#pragma HLS PIPELINE II = 1
    const bool last = beat == cfg::beats - 1;
    if (beat == 0) held = x.read();
    out_t out;
    clear(out);
  Rows:
    for (int copy = 0; copy < cfg::copies; copy++) {
#pragma HLS UNROLL
      typename cfg::sum_t sum[width];
      typename out_t::element_t result[width];
    Outputs:
      for (int lane = 0; lane < cfg::parallel; lane++) {
#pragma HLS UNROLL
        const int o = beat * cfg::parallel + lane;
        typename cfg::acc_t acc = constant<typename cfg::acc_t>(bias[o]);
      Inputs:
        for (int i = 0; i < cfg::n_in; i++) {
#pragma HLS UNROLL
          if (cfg::live(lane, i)) {
            const auto product = held.slot[copy * cfg::n_in + i] * constant<typename cfg::weight_t>(weight[o][i]);
#pragma HLS BIND_OP variable = product op = mul impl = dsp
            acc += product;
          }
        }
        sum[lane] = typename cfg::sum_t(acc);
      }
    Remainder:
      for (int r = 0; r < cfg::remainder; r++) {
#pragma HLS UNROLL
        const int o = cfg::parallel * cfg::beats + r;
        typename cfg::acc_t acc = beat == 0 ? constant<typename cfg::acc_t>(bias[o]) : rest[copy][r];
      Slice:
        for (int lane = 0; lane < slice; lane++) {
#pragma HLS UNROLL
          const int i = beat * slice + lane;
          if (i < cfg::n_in && cfg::live_rest(r, lane)) {
            const auto product = held.slot[copy * cfg::n_in + i] * constant<typename cfg::weight_t>(weight[o][i]);
#pragma HLS BIND_OP variable = product op = mul impl = dsp
            acc += product;
          }
        }
        rest[copy][r] = acc;
        sum[cfg::parallel + r] = typename cfg::sum_t(acc);
      }
      cfg::finish(beat, sum, result);
      const int count = last ? width : cfg::parallel;
    Results:
      for (int k = 0; k < width; k++) {
#pragma HLS UNROLL
        if (k < count) out.slot[copy * count + k] = result[k];
      }
    }
    if (last || cfg::parallel > 0) y.write(out);
    beat = last ? 0 : beat + 1;
  }
}

template <typename cfg, typename in_t, typename weight_t, typename bias_t, typename out_t>
void fold_inputs_beats(stream<in_t> &x, const weight_t weight[cfg::n_out][cfg::beats * cfg::lanes],
                       const bias_t bias[cfg::n_out], stream<out_t> &y) {
  static_assert(cfg::groups > 0 && cfg::beats > 0, "fold_inputs_beats: nothing to do");
  static_assert(in_t::slots == cfg::lanes && out_t::slots == cfg::n_out, "fold_inputs_beats: other beats");
  static_assert(cfg::multipliers > 0 && cfg::multipliers <= cfg::lanes * cfg::n_out,
                "fold_inputs_beats: more multipliers than the loops have");
#pragma HLS ALLOCATION operation instances = mul limit = cfg::multipliers
#pragma HLS ARRAY_RESHAPE variable = weight type = complete dim = 1
#pragma HLS ARRAY_RESHAPE variable = weight type = cyclic factor = cfg::lanes dim = 2
  typename cfg::acc_t acc[cfg::n_out];
#pragma HLS ARRAY_PARTITION variable = acc type = complete
  int beat = 0;
Beats:
  for (int step = 0; step < cfg::groups * cfg::beats; step++) {
#pragma HLS PIPELINE II = 1
    const bool last = beat == cfg::beats - 1;
    const in_t in = x.read();
    typename cfg::sum_t total[cfg::n_out];
  Outputs:
    for (int o = 0; o < cfg::n_out; o++) {
#pragma HLS UNROLL
      typename cfg::acc_t sum = beat == 0 ? constant<typename cfg::acc_t>(bias[o]) : acc[o];
    Inputs:
      for (int lane = 0; lane < cfg::lanes; lane++) {
#pragma HLS UNROLL
        if (cfg::live(o, lane)) {
          const auto product =
              in.slot[lane] * constant<typename cfg::weight_t>(weight[o][beat * cfg::lanes + lane]);
#pragma HLS BIND_OP variable = product op = mul impl = dsp
          sum += product;
        }
      }
      acc[o] = sum;
      total[o] = typename cfg::sum_t(sum);
    }
    if (last) {
      out_t out;
      cfg::finish(beat, total, out.slot);
      y.write(out);
    }
    beat = last ? 0 : beat + 1;
  }
}

}  // namespace metronn

#endif
