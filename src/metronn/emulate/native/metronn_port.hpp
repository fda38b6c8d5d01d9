// What the user of a compiled emulator sees: the description of a port and the result of a run.
#ifndef METRONN_PORT_HPP
#define METRONN_PORT_HPP

#include <cstddef>

namespace metronn {

// An input or output. A code is a signed integer of `words` 64-bit words, least significant first, two's complement
// (so a plain std::int64_t when words is 1); its value is code * 2**-frac. An array of events holds
// [event][element][word], elements in C order of `shape`. On a wire element k has widths[k] bits.
struct port {
  const char* name;
  const std::size_t* shape;  // `rank` entries; an event's shape, without the axis of events
  std::size_t rank;
  std::size_t elements;
  std::size_t words;
  const int* widths;  // `elements` entries
  const int* fracs;   // `elements` entries
  bool is_signed;
};

// Whether all input codes were within their promised ranges; if not, where the first (by event) that was not is.
struct status {
  bool ok = true;
  std::size_t event = 0;
  std::size_t input = 0;
  std::size_t element = 0;
};

}  // namespace metronn

#endif  // METRONN_PORT_HPP
