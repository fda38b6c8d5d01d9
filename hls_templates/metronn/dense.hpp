// Constant matrix times vector, plus bias: the op Linear, in three architectures that give the same integers.
//
//   y[row][o] = sum_i x[row][i] * weight[o][i] + bias[o]
//
// dense               all products at once; products by constants become adders. A new event every cycle.
// dense_fold_outputs  each cycle `parallel` outputs from all inputs: outputs leave one beat after another.
// dense_fold_inputs   each cycle `parallel` inputs into all accumulators: inputs arrive one beat after another.
//
// A configuration has
//   rows, n_in, n_out     the shape: x is [rows][n_in], y is [rows][n_out], both flat
//   weight_t, acc_t       hold every weight; hold every partial sum, in any order of summation, so nothing wraps
// For the folded forms also
//   parallel, beats       outputs (or inputs) per cycle, and the cycles that makes
//   remainder             outputs, the last ones, that dense_fold_outputs sums in slices of the inputs over all beats,
//                         so that no multiplier idles when the beats do not divide the outputs
//   latency_cycles        the longest that the whole call may take
//   live, live_rest, multipliers   the multipliers that see a weight other than 0 in some beat; no others are made:
//                         live(lane, input) and live_rest(output, lane) for dense_fold_outputs, live(output, lane) for
//                         dense_fold_inputs, and how many they are, at least 1
// All inputs have the same number of fraction bits; align (rewire.hpp) makes it so where they do not.
#ifndef METRONN_DENSE_HPP
#define METRONN_DENSE_HPP

#include "metronn/constant.hpp"
#include "metronn/platform.hpp"

namespace metronn {

template <typename cfg, typename in_t, typename weight_t, typename bias_t, typename out_t>
void dense(const in_t x[cfg::rows * cfg::n_in], const weight_t weight[cfg::n_out][cfg::n_in],
           const bias_t bias[cfg::n_out], out_t y[cfg::rows * cfg::n_out]) {
#pragma HLS PIPELINE II = 1
  static_assert(cfg::rows > 0 && cfg::n_in > 0 && cfg::n_out > 0, "dense: empty shape");
Rows:
  for (int row = 0; row < cfg::rows; row++) {
#pragma HLS UNROLL
  Outputs:
    for (int o = 0; o < cfg::n_out; o++) {
#pragma HLS UNROLL
      typename cfg::acc_t acc = constant<typename cfg::acc_t>(bias[o]);
    Inputs:
      for (int i = 0; i < cfg::n_in; i++) {
#pragma HLS UNROLL
        const auto product = x[row * cfg::n_in + i] * constant<typename cfg::weight_t>(weight[o][i]);
#pragma HLS BIND_OP variable = product op = mul impl = fabric
        acc += product;
      }
      y[row * cfg::n_out + o] = out_t(acc);
    }
  }
}

template <typename cfg, typename in_t, typename weight_t, typename bias_t, typename out_t>
void dense_fold_outputs(const in_t x[cfg::rows * cfg::n_in], const weight_t weight[cfg::n_out][cfg::n_in],
                        const bias_t bias[cfg::n_out], out_t y[cfg::rows * cfg::n_out]) {
#pragma HLS LATENCY max = cfg::latency_cycles
  static_assert(cfg::rows > 0 && cfg::n_in > 0 && cfg::n_out > 0, "dense_fold_outputs: empty shape");
  const int whole = cfg::rows * cfg::n_out - cfg::remainder;
  static_assert(cfg::parallel > 0 && cfg::beats * cfg::parallel >= whole && (cfg::beats - 1) * cfg::parallel < whole,
                "dense_fold_outputs: beats is not the number of cycles that all outputs take");
  const int slice = (cfg::n_in + cfg::beats - 1) / cfg::beats;
  static_assert(cfg::multipliers > 0 && cfg::multipliers <= cfg::parallel * cfg::n_in + cfg::remainder * slice,
                "dense_fold_outputs: more multipliers than the loops have");
#pragma HLS ALLOCATION operation instances = mul limit = cfg::multipliers
#pragma HLS ARRAY_RESHAPE variable = weight type = cyclic factor = cfg::parallel dim = 1
#pragma HLS ARRAY_RESHAPE variable = weight type = complete dim = 2
  typename cfg::acc_t rest[cfg::remainder > 0 ? cfg::remainder : 1];
#pragma HLS ARRAY_PARTITION variable = rest type = complete
Beats:
  for (int beat = 0; beat < cfg::beats; beat++) {
#pragma HLS PIPELINE II = 1 rewind
  Outputs:
    for (int lane = 0; lane < cfg::parallel; lane++) {
#pragma HLS UNROLL
      const int place = beat * cfg::parallel + lane;
      if (place < whole) {
        const int row = cfg::rows == 1 ? 0 : place / cfg::n_out;  // one row must not cost a divider
        const int o = place - row * cfg::n_out;
        typename cfg::acc_t acc = constant<typename cfg::acc_t>(bias[o]);
      Inputs:
        for (int i = 0; i < cfg::n_in; i++) {
#pragma HLS UNROLL
          if (cfg::live(lane, i)) {
            const auto product = x[row * cfg::n_in + i] * constant<typename cfg::weight_t>(weight[o][i]);
#pragma HLS BIND_OP variable = product op = mul impl = dsp
            acc += product;
          }
        }
        y[place] = out_t(acc);
      }
    }
  Remainder:
    for (int r = 0; r < cfg::remainder; r++) {
#pragma HLS UNROLL
      const int place = whole + r;
      const int row = place / cfg::n_out;
      const int o = place % cfg::n_out;
      typename cfg::acc_t sum = beat == 0 ? constant<typename cfg::acc_t>(bias[o]) : rest[r];
    Slice:
      for (int lane = 0; lane < slice; lane++) {
#pragma HLS UNROLL
        const int i = beat * slice + lane;
        if (i < cfg::n_in && cfg::live_rest(r, lane)) {
          const auto product = x[row * cfg::n_in + i] * constant<typename cfg::weight_t>(weight[o][i]);
#pragma HLS BIND_OP variable = product op = mul impl = dsp
          sum += product;
        }
      }
      rest[r] = sum;
      if (beat == cfg::beats - 1) y[place] = out_t(sum);
    }
  }
}

template <typename cfg, typename in_t, typename weight_t, typename bias_t, typename out_t>
void dense_fold_inputs(const in_t x[cfg::rows * cfg::n_in], const weight_t weight[cfg::n_out][cfg::n_in],
                       const bias_t bias[cfg::n_out], out_t y[cfg::rows * cfg::n_out]) {
#pragma HLS LATENCY max = cfg::latency_cycles
  static_assert(cfg::rows > 0 && cfg::n_in > 0 && cfg::n_out > 0, "dense_fold_inputs: empty shape");
  static_assert(cfg::parallel > 0 && cfg::beats * cfg::parallel >= cfg::n_in &&
                    (cfg::beats - 1) * cfg::parallel < cfg::n_in,
                "dense_fold_inputs: beats is not the number of cycles that all inputs take");
  static_assert(cfg::multipliers > 0 && cfg::multipliers <= cfg::parallel * cfg::rows * cfg::n_out,
                "dense_fold_inputs: more multipliers than the loops have");
#pragma HLS ALLOCATION operation instances = mul limit = cfg::multipliers
#pragma HLS ARRAY_RESHAPE variable = weight type = complete dim = 1
#pragma HLS ARRAY_RESHAPE variable = weight type = cyclic factor = cfg::parallel dim = 2
  typename cfg::acc_t acc[cfg::rows * cfg::n_out];
#pragma HLS ARRAY_PARTITION variable = acc type = complete
Beats:
  for (int beat = 0; beat < cfg::beats; beat++) {
#pragma HLS PIPELINE II = 1 rewind
  Outputs:
    for (int place = 0; place < cfg::rows * cfg::n_out; place++) {
#pragma HLS UNROLL
      const int row = place / cfg::n_out;
      const int o = place % cfg::n_out;
      typename cfg::acc_t sum = beat == 0 ? constant<typename cfg::acc_t>(bias[o]) : acc[place];
    Inputs:
      for (int lane = 0; lane < cfg::parallel; lane++) {
#pragma HLS UNROLL
        const int i = beat * cfg::parallel + lane;
        if (i < cfg::n_in && cfg::live(o, lane)) {
          const auto product = x[row * cfg::n_in + i] * constant<typename cfg::weight_t>(weight[o][i]);
#pragma HLS BIND_OP variable = product op = mul impl = dsp
          sum += product;
        }
      }
      acc[place] = sum;
      if (beat == cfg::beats - 1) y[place] = out_t(sum);
    }
  }
}

}  // namespace metronn

#endif
