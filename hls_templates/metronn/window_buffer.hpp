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

#include "metronn/constant.hpp"
#include "metronn/stream.hpp"

namespace metronn {

// a / b rounded down, b > 0
constexpr int floor_divided(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

template <typename cfg, typename in_t, typename out_t>
void window_beats(stream<in_t> &x, stream<out_t> &y) {
  static_assert(in_t::slots == cfg::width * cfg::channels, "window_beats: input beats of another size");
  static_assert(out_t::slots == cfg::out_width * cfg::kernel_rows * cfg::kernel_columns * cfg::channels,
                "window_beats: output beats of another size");
  typedef typename out_t::element_t element_t;
  const int lines = (cfg::kernel_rows - 1) * cfg::row_dilation;
  const int length = cfg::blocks * cfg::parts;
  // a row in one block needs no earlier ones; otherwise from the block with the first pixel to the newest
  const int reach = cfg::blocks == 1 ? 0 : cfg::first_block - floor_divided(-cfg::columns_before, cfg::width);
  const int kept = reach * cfg::parts + 1;
  in_t line[lines > 0 ? lines : 1][length];
#pragma HLS ARRAY_PARTITION variable = line type = complete dim = 1
#pragma HLS DEPENDENCE variable = line type = inter direction = RAW distance = length dependent = true
  in_t past[cfg::kernel_rows][kept];  // [kernel row][steps ago]
#pragma HLS ARRAY_PARTITION variable = past type = complete dim = 0
  int place = 0;  // in the row
  int out_row = 0, out_block = 0, out_part = 0;
  int top = -cfg::rows_before, left = -cfg::columns_before;
  int frame_due = ((lines - cfg::rows_before) * cfg::blocks + cfg::first_block) * cfg::parts;
  int row_due = frame_due, due = frame_due;
Steps:
  for (int step = 0; step < cfg::steps; step++) {
#pragma HLS PIPELINE II = cfg::interval
    in_t newest;
    if (step < cfg::frames * cfg::rows * length) {
      newest = x.read();
    } else {
      clear(newest);
    }
  KernelRows:
    for (int i = 0; i < cfg::kernel_rows; i++) {
#pragma HLS UNROLL
    Past:
      for (int k = kept - 1; k > 0; k--) {
#pragma HLS UNROLL
        past[i][k] = past[i][k - 1];
      }
      const int above = (cfg::kernel_rows - 1 - i) * cfg::row_dilation;
      if (above == 0) {
        past[i][0] = newest;
      } else {
        past[i][0] = line[above - 1][place];
      }
    }
  Lines:
    for (int k = lines - 1; k >= 0; k--) {
#pragma HLS UNROLL
      if (k == 0) {
        line[k][place] = newest;
      } else {
        line[k][place] = line[k - 1][place];
      }
    }
    place = place == length - 1 ? 0 : place + 1;
    if (step == due + out_part) {
      out_t out;
    Windows:
      for (int w = 0; w < cfg::out_width; w++) {
#pragma HLS UNROLL
      Rows:
        for (int i = 0; i < cfg::kernel_rows; i++) {
#pragma HLS UNROLL
        Columns:
          for (int j = 0; j < cfg::kernel_columns; j++) {
#pragma HLS UNROLL
            const int column = w * cfg::column_stride + j * cfg::column_dilation;  // from the left of the first window
            const int row = top + i * cfg::row_dilation;
            const bool inside = row >= 0 && row < cfg::rows && left + column >= 0 && left + column < cfg::columns;
            const int block = cfg::blocks == 1 ? 0 : floor_divided(column - cfg::columns_before, cfg::width);
            const int pixel = column - cfg::columns_before - block * cfg::width;
            const int ago = cfg::blocks == 1 ? 0 : (cfg::first_block - block) * cfg::parts;
          Channels:
            for (int c = 0; c < cfg::channels; c++) {
#pragma HLS UNROLL
              const int slot = ((w * cfg::kernel_rows + i) * cfg::kernel_columns + j) * cfg::channels + c;
              if (inside && pixel >= 0 && pixel < cfg::width) {
                out.slot[slot] = element_t(past[i][ago].slot[pixel * cfg::channels + c]);
              } else {
                out.slot[slot] = element_t(cfg::fill());
              }
            }
          }
        }
      }
      y.write(out);
      if (out_part < cfg::parts - 1) {
        out_part++;
      } else if (out_block < cfg::out_blocks - 1) {
        out_part = 0;
        out_block++;
        left += cfg::out_width * cfg::column_stride;
        due += cfg::block_step * cfg::parts;
      } else if (out_row < cfg::out_rows - 1) {
        out_part = out_block = 0;
        out_row++;
        left = -cfg::columns_before;
        top += cfg::row_stride;
        row_due += cfg::row_stride * length;
        due = row_due;
      } else {
        out_part = out_block = out_row = 0;
        left = -cfg::columns_before;
        top = -cfg::rows_before;
        frame_due += cfg::rows * length;
        row_due = due = frame_due;
      }
    }
  }
}

}  // namespace metronn

#endif
