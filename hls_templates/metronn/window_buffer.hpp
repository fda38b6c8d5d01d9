// Sliding windows over an image that comes pixel by pixel: the op Window on a stream.
//
//   window_beats    a process that keeps rows of the image and lets windows leave
//   line_beats      the same as two processes: this one keeps the rows, and hands on pixels above each other
//   column_beats    and this one lets windows leave
//
// The image comes row by row, a row in blocks of `width` pixels, a block in `parts` beats of `channels` channels each,
// the last of `last_channels`; slots of a beat are in the order pixel, channel. Each output beat holds `out_width`
// neighbouring windows of the same part of the channels, in the order window, kernel row, kernel column, channel. A
// window leaves in the step in which its last pixel comes; where that lies beyond the edge, steps go on with the next
// row, so padding stalls nothing.
//
// Behind the last pixel of an event window_beats goes on without reading until the padding has left. Two processes do
// that side by side with the next event: line_beats is at its first rows, from which no window leaves yet, while
// column_beats, which begins with the first window, is at the padding. What stands above it is the row before, which
// column_beats has kept.
//
// Memory: (kernel_rows - 1) * row_dilation rows of the image, and the blocks that a window reaches over; twice for two
// processes.
//
// A configuration has
//   frames, rows, columns          images (or single rows) per event, and their size in pixels
//   width, blocks, parts, channels, last_channels  see above; blocks = columns / width, rounded up
//   slots                          width * the larger number of channels, those of a beat
//   kernel_rows, kernel_columns, row_stride, column_stride, row_dilation, column_dilation
//   rows_before, columns_before    padding above and to the left
//   out_rows, out_blocks, out_width
//   first_block, block_step        block in which the first windows of a row leave, and steps in blocks to the next
//   length                         beats of a row
//   lines                          rows that are kept: (kernel_rows - 1) * row_dilation
//   kept                           beats that a window reaches over, in a row
//   first_step                     step in which the first window leaves
//   steps                          steps per event; column_beats leaves out those before first_step
//   interval                       cycles from one to the next
//   fill_t, fill()                 the padding
#ifndef METRONN_WINDOW_BUFFER_HPP
#define METRONN_WINDOW_BUFFER_HPP

#include "constant.hpp"
#include "stream.hpp"

namespace metronn {

// a / b rounded down, b > 0
constexpr int floor_divided(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

constexpr int larger(int a, int b) { return a > b ? a : b; }

// The next windows that leave: where they are, and in how many steps that is.
template <typename cfg>
struct window_place {
  // steps from one output beat to the next: in a row, to the next row, to the next image
  static const int in_row = (cfg::out_blocks - 1) * cfg::block_step * cfg::parts + cfg::parts - 1;
  static const int to_block = cfg::block_step * cfg::parts - (cfg::parts - 1);
  static const int to_row = cfg::row_stride * cfg::length - in_row;
  static const int to_frame = (cfg::rows - (cfg::out_rows - 1) * cfg::row_stride) * cfg::length - in_row;
  typedef uint<bits_of(larger(larger(to_block, to_row), larger(to_frame, cfg::first_step)))> wait_t;
  typedef sint<bits_of((cfg::out_rows - 1) * cfg::row_stride + cfg::rows_before + cfg::lines) + 1> row_t;
  typedef sint<bits_of(cfg::out_blocks * cfg::out_width * cfg::column_stride + cfg::columns_before +
                       cfg::kernel_columns * cfg::column_dilation) + 1> column_t;
  uint<bits_of(cfg::out_rows - 1)> out_row;
  uint<bits_of(cfg::out_blocks - 1)> out_block;
  uint<bits_of(cfg::parts - 1)> out_part;
  row_t top;
  column_t left;
  wait_t wait;  // steps until the next output beat
  bool leaves;  // whether that is now: known a step ahead
};

template <typename cfg>
inline void first_place(window_place<cfg> &at, int steps) {
#pragma HLS INLINE
  at.out_row = 0;
  at.out_block = 0;
  at.out_part = 0;
  at.top = -cfg::rows_before;
  at.left = -cfg::columns_before;
  at.wait = steps;
  at.leaves = steps == 0;
}

template <typename cfg>
inline void next_place(window_place<cfg> &at) {
#pragma HLS INLINE
  typedef window_place<cfg> place;
  if (!at.leaves) {
    at.leaves = at.wait == 1;
    at.wait--;
  } else if (at.out_part != cfg::parts - 1) {
    at.out_part++;
    at.wait = 0;
    at.leaves = true;
  } else {
    at.out_part = 0;
    if (at.out_block != cfg::out_blocks - 1) {
      at.out_block++;
      at.left += cfg::out_width * cfg::column_stride;
      at.wait = place::to_block - 1;
      at.leaves = place::to_block == 1;
    } else {
      at.out_block = 0;
      at.left = -cfg::columns_before;
      if (at.out_row != cfg::out_rows - 1) {
        at.out_row++;
        at.top += cfg::row_stride;
        at.wait = place::to_row - 1;
        at.leaves = place::to_row == 1;
      } else {
        at.out_row = 0;
        at.top = -cfg::rows_before;
        at.wait = place::to_frame - 1;
        at.leaves = place::to_frame == 1;
      }
    }
  }
}

// Moves past, [kernel row][steps ago][slot], on by a step; `column` holds pixels above each other, the newest first.
template <typename cfg, typename element_t, typename in_t>
inline void keep_column(element_t past[cfg::kernel_rows][cfg::kept][cfg::slots], const in_t column[cfg::lines + 1]) {
#pragma HLS INLINE
KernelRows:
  for (int i = 0; i < cfg::kernel_rows; i++) {
#pragma HLS UNROLL
  Slots:
    for (int s = 0; s < cfg::slots; s++) {
#pragma HLS UNROLL
    Past:
      for (int k = cfg::kept - 1; k > 0; k--) {
#pragma HLS UNROLL
        past[i][k][s] = past[i][k - 1][s];
      }
      past[i][0][s] = column[(cfg::kernel_rows - 1 - i) * cfg::row_dilation].slot[s];
    }
  }
}

// Writes the windows of a step, if any leave in it, and goes on to the next.
template <typename cfg, typename element_t, typename out_q>
inline void leave_windows(const element_t past[cfg::kernel_rows][cfg::kept][cfg::slots], window_place<cfg> &at,
                          out_q &y) {
#pragma HLS INLINE
  typedef typename beat_of<out_q>::type out_t;
  typedef typename window_place<cfg>::row_t row_t;
  typedef typename window_place<cfg>::column_t column_t;
  const int most = larger(cfg::channels, cfg::last_channels);
  static_assert(out_t::slots == cfg::out_width * cfg::kernel_rows * cfg::kernel_columns * most,
                "leave_windows: output beats of another size");
  if (at.leaves) {
    const bool is_last = cfg::channels != cfg::last_channels && at.out_part == cfg::parts - 1;
    out_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
    clear(out);
  Windows:
    for (int w = 0; w < cfg::out_width; w++) {
#pragma HLS UNROLL
    Rows:
      for (int i = 0; i < cfg::kernel_rows; i++) {
#pragma HLS UNROLL
      Columns:
        for (int j = 0; j < cfg::kernel_columns; j++) {
#pragma HLS UNROLL
          const int across = w * cfg::column_stride + j * cfg::column_dilation;  // from the left of the first window
          const row_t row = at.top + i * cfg::row_dilation;
          const column_t from_left = at.left + across;
          const bool inside = row >= 0 && row < cfg::rows && from_left >= 0 && from_left < cfg::columns;
          const int block = cfg::blocks == 1 ? 0 : floor_divided(across - cfg::columns_before, cfg::width);
          const int pixel = across - cfg::columns_before - block * cfg::width;
          const int ago = cfg::blocks == 1 ? 0 : (cfg::first_block - block) * cfg::parts;
        Channels:
          for (int c = 0; c < most; c++) {
#pragma HLS UNROLL
            const int first = (w * cfg::kernel_rows + i) * cfg::kernel_columns + j;
            const bool known = inside && pixel >= 0 && pixel < cfg::width;
            typename out_t::element_t value = cfg::fill();
            if (c < cfg::channels && !is_last) {
              if (known) value = typename out_t::element_t(past[i][ago][pixel * cfg::channels + c]);
              out.slot[first * cfg::channels + c] = value;
            }
            if (c < cfg::last_channels && is_last) {
              if (known) value = typename out_t::element_t(past[i][ago][pixel * cfg::last_channels + c]);
              out.slot[first * cfg::last_channels + c] = value;
            }
          }
        }
      }
    }
    write_beat(y, out);
  }
  next_place<cfg>(at);
}

template <typename cfg, typename in_q, typename out_q>
void window_beats(in_q &x, out_q &y) {
  typedef typename beat_of<in_q>::type in_t;
  static_assert(in_t::slots == cfg::slots, "window_beats: input beats of another size");
  static_assert(cfg::steps > 1, "window_beats: a single step");
  in_t line[cfg::lines > 0 ? cfg::lines : 1][cfg::length];
#pragma HLS AGGREGATE variable = line compact = bit
#pragma HLS ARRAY_PARTITION variable = line type = complete dim = 1
#pragma HLS DEPENDENCE variable = line type = inter direction = RAW distance = cfg::length dependent = true
  typename in_t::element_t past[cfg::kernel_rows][cfg::kept][cfg::slots];
#pragma HLS ARRAY_PARTITION variable = past type = complete dim = 0
  uint<bits_of(cfg::length - 1)> place;  // in the row
  window_place<cfg> at;
Steps:
  for (int step = 0; step < cfg::steps; step++) {
#pragma HLS PIPELINE II = cfg::interval rewind style = frp
    if (step == 0) {
      place = 0;
      first_place<cfg>(at, cfg::first_step);
    }
    in_t newest;
#pragma HLS ARRAY_PARTITION variable = newest.slot type = complete
    if (step < cfg::frames * cfg::rows * cfg::length) {
      newest = read_beat(x);
    } else {
      clear(newest);
    }
    in_t column[cfg::lines + 1];
#pragma HLS AGGREGATE variable = column compact = bit
#pragma HLS ARRAY_PARTITION variable = column type = complete
    column[0] = newest;
  Above:
    for (int k = 0; k < cfg::lines; k++) {
#pragma HLS UNROLL
      column[k + 1] = line[k][place.to_int()];
    }
  Lines:
    for (int k = 0; k < cfg::lines; k++) {
#pragma HLS UNROLL
      line[k][place.to_int()] = column[k];
    }
    keep_column<cfg>(past, column);
    leave_windows<cfg>(past, at, y);
    if (place == cfg::length - 1) {
      place = 0;
    } else {
      place++;
    }
  }
}

// Beats of `second` are a column: the newest beat and those above it. Those of `first`, for the first window of each
// part, are the columns of all blocks up to first_block, the newest first.
template <typename cfg, typename in_q, typename first_q, typename second_q>
void line_beats(in_q &x, first_q &first, second_q &second) {
  typedef typename beat_of<in_q>::type in_t;
  typedef typename beat_of<first_q>::type first_t;
  typedef typename beat_of<second_q>::type second_t;
  static_assert(in_t::slots == cfg::slots, "line_beats: input beats of another size");
  static_assert(second_t::slots == (cfg::lines + 1) * cfg::slots, "line_beats: columns of another size");
  static_assert(first_t::slots == (cfg::first_block + 1) * second_t::slots, "line_beats: first columns of other size");
  in_t line[cfg::lines > 0 ? cfg::lines : 1][cfg::length];
#pragma HLS AGGREGATE variable = line compact = bit
#pragma HLS ARRAY_PARTITION variable = line type = complete dim = 1
#pragma HLS DEPENDENCE variable = line type = inter direction = RAW distance = cfg::length dependent = true
  typename in_t::element_t past[cfg::first_block * cfg::parts + 1][cfg::lines + 1][cfg::slots];  // [steps ago]
#pragma HLS ARRAY_PARTITION variable = past type = complete dim = 0
  uint<bits_of(cfg::length - 1)> place;  // in the row
Steps:
  for (int step = 0; step < cfg::frames * cfg::rows * cfg::length; step++) {
#pragma HLS PIPELINE II = cfg::interval rewind style = frp
    if (step == 0) place = 0;
    in_t column[cfg::lines + 1];
#pragma HLS AGGREGATE variable = column compact = bit
#pragma HLS ARRAY_PARTITION variable = column type = complete
    column[0] = read_beat(x);
  Above:
    for (int k = 0; k < cfg::lines; k++) {
#pragma HLS UNROLL
      column[k + 1] = line[k][place.to_int()];
    }
  Lines:
    for (int k = 0; k < cfg::lines; k++) {
#pragma HLS UNROLL
      line[k][place.to_int()] = column[k];
    }
    second_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
  Rows:
    for (int k = 0; k < cfg::lines + 1; k++) {
#pragma HLS UNROLL
    Slots:
      for (int s = 0; s < cfg::slots; s++) {
#pragma HLS UNROLL
      Past:
        for (int ago = cfg::first_block * cfg::parts; ago > 0; ago--) {
#pragma HLS UNROLL
          past[ago][k][s] = past[ago - 1][k][s];
        }
        past[0][k][s] = column[k].slot[s];
        out.slot[k * cfg::slots + s] = column[k].slot[s];
      }
    }
    if (step >= cfg::first_step + cfg::parts) {
      write_beat(second, out);
    } else if (step >= cfg::first_step) {
      first_t begin;
#pragma HLS ARRAY_PARTITION variable = begin.slot type = complete
    Blocks:
      for (int b = 0; b < cfg::first_block + 1; b++) {
#pragma HLS UNROLL
      BlockRows:
        for (int k = 0; k < cfg::lines + 1; k++) {
#pragma HLS UNROLL
        BlockSlots:
          for (int s = 0; s < cfg::slots; s++) {
#pragma HLS UNROLL
            begin.slot[(b * (cfg::lines + 1) + k) * cfg::slots + s] = past[b * cfg::parts][k][s];
          }
        }
      }
      write_beat(first, begin);
    }
    if (place == cfg::length - 1) {
      place = 0;
    } else {
      place++;
    }
  }
}

// Reads what line_beats writes: `begin` its first queue, `columns` its second.
template <typename cfg, typename begin_q, typename columns_q, typename out_q>
void column_beats(begin_q &begin, columns_q &columns, out_q &y) {
  typedef typename beat_of<begin_q>::type begin_t;
  typedef typename beat_of<columns_q>::type columns_t;
  typedef beat<typename columns_t::element_t, cfg::slots> in_t;
  static_assert(columns_t::slots == (cfg::lines + 1) * cfg::slots, "column_beats: columns of another size");
  static_assert(cfg::steps > cfg::first_step + 1, "column_beats: a single step");
  in_t line[cfg::lines > 0 ? cfg::lines : 1][cfg::length];  // of the row before
#pragma HLS AGGREGATE variable = line compact = bit
#pragma HLS ARRAY_PARTITION variable = line type = complete dim = 1
#pragma HLS DEPENDENCE variable = line type = inter direction = RAW distance = cfg::length dependent = true
  typename in_t::element_t past[cfg::kernel_rows][cfg::kept][cfg::slots];
#pragma HLS ARRAY_PARTITION variable = past type = complete dim = 0
  uint<bits_of(cfg::length - 1)> place;  // in the row
  window_place<cfg> at;
Steps:
  for (int step = 0; step < cfg::steps - cfg::first_step; step++) {
#pragma HLS PIPELINE II = cfg::interval rewind style = frp
    if (step == 0) {
      place = cfg::first_step % cfg::length;
      first_place<cfg>(at, 0);
    }
    begin_t early;
#pragma HLS ARRAY_PARTITION variable = early.slot type = complete
    columns_t newest;
#pragma HLS ARRAY_PARTITION variable = newest.slot type = complete
    clear(early);
    clear(newest);
    if (step < cfg::parts) {
      early = read_beat(begin);
    } else if (step < cfg::frames * cfg::rows * cfg::length - cfg::first_step) {
      newest = read_beat(columns);
    }
    in_t column[cfg::lines + 1];
#pragma HLS AGGREGATE variable = column compact = bit
#pragma HLS ARRAY_PARTITION variable = column type = complete
  Rows:
    for (int k = 0; k < cfg::lines + 1; k++) {
#pragma HLS UNROLL
    Slots:
      for (int s = 0; s < cfg::slots; s++) {
#pragma HLS UNROLL
        const int slot = k * cfg::slots + s;
        column[k].slot[s] = step < cfg::parts ? early.slot[slot] : newest.slot[slot];
      }
    }
    if (step >= cfg::frames * cfg::rows * cfg::length - cfg::first_step) {
    Above:
      for (int k = 0; k < cfg::lines; k++) {
#pragma HLS UNROLL
        column[k + 1] = line[k][place.to_int()];
      }
    }
  Lines:
    for (int k = 0; k < cfg::lines; k++) {
#pragma HLS UNROLL
      line[k][place.to_int()] = column[k];
    }
    keep_column<cfg>(past, column);
    if (step < cfg::parts) {
    Blocks:
      for (int b = 1; b < cfg::first_block + 1; b++) {
#pragma HLS UNROLL
      KernelRows:
        for (int i = 0; i < cfg::kernel_rows; i++) {
#pragma HLS UNROLL
          const int k = (cfg::kernel_rows - 1 - i) * cfg::row_dilation;
        BlockSlots:
          for (int s = 0; s < cfg::slots; s++) {
#pragma HLS UNROLL
            past[i][b * cfg::parts][s] = early.slot[(b * (cfg::lines + 1) + k) * cfg::slots + s];
          }
        }
      }
    }
    leave_windows<cfg>(past, at, y);
    if (place == cfg::length - 1) {
      place = 0;
    } else {
      place++;
    }
  }
}

}  // namespace metronn

#endif
