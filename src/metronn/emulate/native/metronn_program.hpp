// The command-line program around a compiled emulator: events in, events out, as text or as 64-bit words.
#ifndef METRONN_PROGRAM_HPP
#define METRONN_PROGRAM_HPP

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "metronn_port.hpp"

namespace metronn {

inline constexpr std::size_t program_events = 16384;  // events held in memory at a time

struct program_options {
  bool binary = false;
  unsigned threads = 0;
  std::string input;   // empty: standard input
  std::string output;  // empty: standard output
};

// Decimal text to two's complement words. Throws std::runtime_error when it is not an integer or does not fit.
inline void parse_decimal(const std::string& text, std::size_t words, std::int64_t* code) {
  const bool negative = text[0] == '-';
  std::size_t position = negative || text[0] == '+' ? 1 : 0;
  if (position == text.size()) {
    throw std::runtime_error("'" + text + "' is not an integer");
  }
  std::vector<std::uint64_t> limbs(words + 1, 0);
  for (; position < text.size(); ++position) {
    if (std::isdigit(static_cast<unsigned char>(text[position])) == 0) {
      throw std::runtime_error("'" + text + "' is not an integer");
    }
    std::uint64_t carry = static_cast<std::uint64_t>(text[position] - '0');
    for (std::uint64_t& limb : limbs) {
      const std::uint64_t low = (limb & 0xffffffffU) * 10 + carry;
      const std::uint64_t high = (limb >> 32) * 10 + (low >> 32);
      limb = (high << 32) | (low & 0xffffffffU);
      carry = high >> 32;
    }
    if (carry != 0 || limbs[words] != 0) {
      throw std::runtime_error(text + " is wider than the input");
    }
  }
  std::uint64_t carry = 1;
  for (std::size_t i = 0; i < words; ++i) {
    const std::uint64_t inverted = ~limbs[i] + carry;
    carry = carry != 0 && inverted == 0 ? 1 : 0;
    code[i] = static_cast<std::int64_t>(negative ? inverted : limbs[i]);
  }
  const bool zero = std::all_of(limbs.begin(), limbs.end(), [](std::uint64_t limb) { return limb == 0; });
  if (!zero && (code[words - 1] < 0) != negative) {
    throw std::runtime_error(text + " is wider than the input");
  }
}

inline std::string decimal(const std::int64_t* code, std::size_t words) {
  if (words == 1) {
    return std::to_string(code[0]);
  }
  const bool negative = code[words - 1] < 0;
  std::vector<std::uint64_t> limbs(words);
  std::uint64_t carry = 1;
  for (std::size_t i = 0; i < words; ++i) {
    const auto limb = static_cast<std::uint64_t>(code[i]);
    const std::uint64_t inverted = ~limb + carry;
    carry = carry != 0 && inverted == 0 ? 1 : 0;
    limbs[i] = negative ? inverted : limb;
  }
  std::string digits;
  while (std::any_of(limbs.begin(), limbs.end(), [](std::uint64_t limb) { return limb != 0; })) {
    std::uint64_t rest = 0;
    for (std::size_t i = words; i-- > 0;) {
      const std::uint64_t high = (rest << 32) | (limbs[i] >> 32);
      const std::uint64_t low = ((high % 10) << 32) | (limbs[i] & 0xffffffffU);
      limbs[i] = ((high / 10) << 32) | (low / 10);
      rest = low % 10;
    }
    digits.push_back(static_cast<char>('0' + rest));
  }
  if (digits.empty()) {
    return "0";
  }
  std::reverse(digits.begin(), digits.end());
  return negative ? "-" + digits : digits;
}

inline const char* program_usage =
    " [--text | --binary] [--threads N] [-o OUTPUT] [INPUT]\n"
    "Reads events and writes the network's answers, in integer codes.\n"
    "  --text      whitespace between codes, one event's answers a line (default)\n"
    "  --binary    each code as little-endian 64-bit words, two's complement, nothing between them\n"
    "  --threads   default: one per core\n"
    "  INPUT, -o   default: standard input, standard output\n"
    "An event is all elements of all inputs, an answer all elements of all outputs, in this order:\n";

template <std::size_t N>
inline std::size_t event_words(const port (&ports)[N]) {
  std::size_t words = 0;
  for (const port& p : ports) {
    words += p.elements * p.words;
  }
  return words;
}

template <std::size_t N>
inline void list_ports(const char* kind, const port (&ports)[N], std::ostream& to) {
  for (const port& p : ports) {
    to << "  " << kind << ' ' << p.name << ": " << p.elements << " elements of " << p.words << " word(s)\n";
  }
}

inline program_options parse_options(int argc, char** argv) {
  program_options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&]() {
      if (i + 1 == argc) {
        throw std::runtime_error(word + " needs a value");
      }
      return std::string(argv[++i]);
    };
    if (word == "--binary") {
      options.binary = true;
    } else if (word == "--text") {
      options.binary = false;
    } else if (word == "--threads") {
      std::int64_t threads = 0;
      parse_decimal(value(), 1, &threads);
      if (threads < 0 || threads > 4096) {
        throw std::runtime_error("--threads is " + std::to_string(threads) + ", allowed is 0 to 4096");
      }
      options.threads = static_cast<unsigned>(threads);
    } else if (word == "-o") {
      options.output = value();
    } else if (word.size() > 1 && word[0] == '-') {
      throw std::runtime_error("unknown option " + word);
    } else if (options.input.empty()) {
      options.input = word;
    } else {
      throw std::runtime_error("more than one input file: " + word);
    }
  }
  return options;
}

// Up to program_events events, split by input port. Returns how many were read; throws at a partial event.
template <std::size_t N>
inline std::size_t read_events(std::istream& from, bool binary, const port (&ports)[N], std::size_t done,
                               std::vector<std::int64_t> (&data)[N]) {
  for (std::vector<std::int64_t>& port_data : data) {
    port_data.clear();
  }
  std::vector<std::int64_t> words(event_words(ports));
  std::string text;
  for (std::size_t event = 0; event < program_events; ++event) {
    const std::string where = "event " + std::to_string(done + event);
    if (binary) {
      from.read(reinterpret_cast<char*>(words.data()), static_cast<std::streamsize>(words.size() * 8));
      if (from.gcount() == 0) {
        return event;
      }
      if (static_cast<std::size_t>(from.gcount()) != words.size() * 8) {
        throw std::runtime_error(where + ": the data ends after " + std::to_string(from.gcount()) + " of " +
                                 std::to_string(words.size() * 8) + " bytes");
      }
    } else {
      std::size_t at = 0;
      for (const port& p : ports) {
        for (std::size_t k = 0; k < p.elements; ++k, at += p.words) {
          if (!(from >> text)) {
            if (at == 0) {
              return event;
            }
            throw std::runtime_error(where + ": the text ends at element " + std::to_string(k) + " of input " +
                                     p.name);
          }
          try {
            parse_decimal(text, p.words, words.data() + at);
          } catch (const std::runtime_error& error) {
            throw std::runtime_error(where + ", input " + p.name + ", element " + std::to_string(k) + ": " +
                                     error.what());
          }
        }
      }
    }
    std::size_t at = 0;
    for (std::size_t i = 0; i < N; ++i) {
      const std::size_t count = ports[i].elements * ports[i].words;
      data[i].insert(data[i].end(), words.begin() + static_cast<std::ptrdiff_t>(at),
                     words.begin() + static_cast<std::ptrdiff_t>(at + count));
      at += count;
    }
  }
  return program_events;
}

template <std::size_t N>
inline void write_events(std::ostream& to, bool binary, const port (&ports)[N], std::size_t events,
                         const std::vector<std::int64_t> (&data)[N]) {
  for (std::size_t event = 0; event < events; ++event) {
    const char* separator = "";
    for (std::size_t i = 0; i < N; ++i) {
      const std::size_t count = ports[i].elements * ports[i].words;
      const std::int64_t* codes = data[i].data() + event * count;
      if (binary) {
        to.write(reinterpret_cast<const char*>(codes), static_cast<std::streamsize>(count * 8));
        continue;
      }
      for (std::size_t k = 0; k < ports[i].elements; ++k) {
        to << separator << decimal(codes + k * ports[i].words, ports[i].words);
        separator = " ";
      }
    }
    if (!binary) {
      to << '\n';
    }
  }
}

template <std::size_t I, std::size_t O, typename Run>
inline void process(const program_options& options, const port (&inputs)[I], const port (&outputs)[O], Run run) {
  std::ios::sync_with_stdio(false);
  std::ifstream input_file;
  std::ofstream output_file;
  if (!options.input.empty()) {
    input_file.open(options.input, std::ios::binary);
    if (!input_file) {
      throw std::runtime_error("cannot read " + options.input);
    }
  }
  if (!options.output.empty()) {
    output_file.open(options.output, std::ios::binary);
    if (!output_file) {
      throw std::runtime_error("cannot write " + options.output);
    }
  }
  std::istream& from = options.input.empty() ? std::cin : input_file;
  std::ostream& to = options.output.empty() ? std::cout : output_file;
  std::vector<std::int64_t> in_data[I];
  std::vector<std::int64_t> out_data[O];
  std::size_t done = 0;
  while (true) {
    const std::size_t events = read_events(from, options.binary, inputs, done, in_data);
    const std::int64_t* in[I];
    std::int64_t* out[O];
    for (std::size_t i = 0; i < I; ++i) {
      in[i] = in_data[i].data();
    }
    for (std::size_t i = 0; i < O; ++i) {
      out_data[i].resize(events * outputs[i].elements * outputs[i].words);
      out[i] = out_data[i].data();
    }
    const status result = run(in, out, events, options.threads);
    if (!result.ok) {
      const port& bad = inputs[result.input];
      const std::size_t offset = (result.event * bad.elements + result.element) * bad.words;
      throw std::runtime_error("input " + std::string(bad.name) + ": event " + std::to_string(done + result.event) +
                               ", element " + std::to_string(result.element) + " is " +
                               decimal(in[result.input] + offset, bad.words) + ", outside its promised range");
    }
    write_events(to, options.binary, outputs, events, out_data);
    done += events;
    if (events < program_events) {
      break;
    }
  }
  to.flush();
  if (!to) {
    throw std::runtime_error("writing the output failed");
  }
}

// The whole program. Exit codes: 0 done, 2 bad request or bad data.
template <std::size_t I, std::size_t O, typename Run>
inline int program(int argc, char** argv, const port (&inputs)[I], const port (&outputs)[O], Run run) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
      std::cout << "usage: " << argv[0] << program_usage;
      list_ports("input", inputs, std::cout);
      list_ports("output", outputs, std::cout);
      return 0;
    }
  }
  try {
    process(parse_options(argc, argv), inputs, outputs, run);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 2;
  }
  return 0;
}

}  // namespace metronn

#endif  // METRONN_PROGRAM_HPP
