// Sliding windows over an image that comes pixel by pixel: the op Window on a stream.
//
// The image comes row by row, a row in blocks of `width` pixels, a block in `parts` beats of `channels` channels each;
// slots of a beat are in the order pixel, channel. Each output beat holds `out_width` neighbouring windows of the same
// part of the channels, in the order window, kernel row, kernel column, channel. A window leaves in the step in which
// its last pixel comes; where that lies beyond the edge, steps go on with the next row, so padding stalls nothing.
//
// Memory: (kernel_rows - 1) * row_dilation rows of the image, and the blocks that a window reaches over.
//
// A configuration has
//   frames, rows, columns          images (or single rows) per event, and their size in pixels
//   width, blocks, parts, channels  see above; blocks = columns / width, rounded up
//   kernel_rows, kernel_columns, row_stride, column_stride, row_dilation, column_dilation
//   rows_before, columns_before    padding above and to the left
//   out_rows, out_blocks, out_width
//   first_block, block_step        block in which the first windows of a row leave, and steps in blocks to the next
//   steps                          iterations per event
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

template <typename cfg, typename in_q, typename out_q>
void window_beats(in_q &x, out_q &y) {
  typedef typename beat_of<in_q>::type in_t;
  typedef typename beat_of<out_q>::type out_t;
  static_assert(in_t::slots == cfg::width * cfg::channels, "window_beats: input beats of another size");
  static_assert(out_t::slots == cfg::out_width * cfg::kernel_rows * cfg::kernel_columns * cfg::channels,
                "window_beats: output beats of another size");
  static_assert(cfg::steps > 1, "window_beats: a single step");
  typedef typename out_t::element_t element_t;
  const int lines = (cfg::kernel_rows - 1) * cfg::row_dilation;
  const int length = cfg::blocks * cfg::parts;
  // a row in one block needs no earlier ones; otherwise from the block with the first pixel to the newest
  const int reach = cfg::blocks == 1 ? 0 : cfg::first_block - floor_divided(-cfg::columns_before, cfg::width);
  const int kept = reach * cfg::parts + 1;
  // steps from one output beat to the next: in a row, to the next row, to the next image
  const int in_row = (cfg::out_blocks - 1) * cfg::block_step * cfg::parts + cfg::parts - 1;
  const int to_block = cfg::block_step * cfg::parts - (cfg::parts - 1);
  const int to_row = cfg::row_stride * length - in_row;
  const int to_frame = (cfg::rows - (cfg::out_rows - 1) * cfg::row_stride) * length - in_row;
  const int to_first = ((lines - cfg::rows_before) * cfg::blocks + cfg::first_block) * cfg::parts;
  typedef uint<bits_of(larger(larger(to_block, to_row), larger(to_frame, to_first)))> wait_t;
  typedef sint<bits_of((cfg::out_rows - 1) * cfg::row_stride + cfg::rows_before + lines) + 1> row_t;
  typedef sint<bits_of(cfg::out_blocks * cfg::out_width * cfg::column_stride + cfg::columns_before +
                       cfg::kernel_columns * cfg::column_dilation) + 1> column_t;
  in_t line[lines > 0 ? lines : 1][length];
#pragma HLS AGGREGATE variable = line compact = bit
#pragma HLS ARRAY_PARTITION variable = line type = complete dim = 1
#pragma HLS DEPENDENCE variable = line type = inter direction = RAW distance = length dependent = true
  typename in_t::element_t past[cfg::kernel_rows][kept][in_t::slots];  // [kernel row][steps ago][slot]
#pragma HLS ARRAY_PARTITION variable = past type = complete dim = 0
  uint<bits_of(length - 1)> place;  // in the row
  uint<bits_of(cfg::out_rows - 1)> out_row;
  uint<bits_of(cfg::out_blocks - 1)> out_block;
  uint<bits_of(cfg::parts - 1)> out_part;
  row_t top;
  column_t left;
  wait_t wait;  // steps until the next output beat
  bool leaves;  // whether that is now: known a step ahead
Steps:
  for (int step = 0; step < cfg::steps; step++) {
#pragma HLS PIPELINE II = cfg::interval rewind style = frp
    if (step == 0) {
      place = 0;
      out_row = 0;
      out_block = 0;
      out_part = 0;
      top = -cfg::rows_before;
      left = -cfg::columns_before;
      wait = to_first;
      leaves = to_first == 0;
    }
    in_t newest;
#pragma HLS ARRAY_PARTITION variable = newest.slot type = complete
    if (step < cfg::frames * cfg::rows * length) {
      newest = read_beat(x);
    } else {
      clear(newest);
    }
    in_t column[lines + 1];  // pixels above each other, the newest first
#pragma HLS AGGREGATE variable = column compact = bit
#pragma HLS ARRAY_PARTITION variable = column type = complete
    column[0] = newest;
  Above:
    for (int k = 0; k < lines; k++) {
#pragma HLS UNROLL
      column[k + 1] = line[k][place.to_int()];
    }
  Lines:
    for (int k = 0; k < lines; k++) {
#pragma HLS UNROLL
      line[k][place.to_int()] = column[k];
    }
  KernelRows:
    for (int i = 0; i < cfg::kernel_rows; i++) {
#pragma HLS UNROLL
    Slots:
      for (int s = 0; s < in_t::slots; s++) {
#pragma HLS UNROLL
      Past:
        for (int k = kept - 1; k > 0; k--) {
#pragma HLS UNROLL
          past[i][k][s] = past[i][k - 1][s];
        }
        past[i][0][s] = column[(cfg::kernel_rows - 1 - i) * cfg::row_dilation].slot[s];
      }
    }
    if (leaves) {
      out_t out;
#pragma HLS ARRAY_PARTITION variable = out.slot type = complete
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
            const row_t row = top + i * cfg::row_dilation;
            const column_t from_left = left + across;
            const bool inside = row >= 0 && row < cfg::rows && from_left >= 0 && from_left < cfg::columns;
            const int block = cfg::blocks == 1 ? 0 : floor_divided(across - cfg::columns_before, cfg::width);
            const int pixel = across - cfg::columns_before - block * cfg::width;
            const int ago = cfg::blocks == 1 ? 0 : (cfg::first_block - block) * cfg::parts;
          Channels:
            for (int c = 0; c < cfg::channels; c++) {
#pragma HLS UNROLL
              const int slot = ((w * cfg::kernel_rows + i) * cfg::kernel_columns + j) * cfg::channels + c;
              if (inside && pixel >= 0 && pixel < cfg::width) {
                out.slot[slot] = element_t(past[i][ago][pixel * cfg::channels + c]);
              } else {
                out.slot[slot] = element_t(cfg::fill());
              }
            }
          }
        }
      }
      write_beat(y, out);
      if (out_part != cfg::parts - 1) {
        out_part++;
        wait = 0;
        leaves = true;
      } else {
        out_part = 0;
        if (out_block != cfg::out_blocks - 1) {
          out_block++;
          left += cfg::out_width * cfg::column_stride;
          wait = to_block - 1;
          leaves = to_block == 1;
        } else {
          out_block = 0;
          left = -cfg::columns_before;
          if (out_row != cfg::out_rows - 1) {
            out_row++;
            top += cfg::row_stride;
            wait = to_row - 1;
            leaves = to_row == 1;
          } else {
            out_row = 0;
            top = -cfg::rows_before;
            wait = to_frame - 1;
            leaves = to_frame == 1;
          }
        }
      }
    } else {
      leaves = wait == 1;
      wait--;
    }
    if (place == length - 1) {
      place = 0;
    } else {
      place++;
    }
  }
}

}  // namespace metronn

#endif
