"""Scripts of an HLS project for the vendor's tool: a Tcl script, a configuration file, and the check of what came out.

No include path is given and no file is named by an absolute path, so a folder of any name will do: headers include each
other from where they are, and vectors are taken along as a folder of the test bench.
"""

from __future__ import annotations

from metronn.emit.hls.files import Timing

FLAGS = "-std=c++14 -Wno-unknown-pragmas -Wno-unused-label"
ARGUMENTS = "vectors/inputs.txt outputs.txt vectors/expected.txt"
UNCERTAINTY = "12.5%"
"""Part of the period that the tool keeps for routing; its own default of 27 % would add registers."""


def _period(clock_period_ns: float) -> str:
    return f"{clock_period_ns:.4f}".rstrip("0").rstrip(".")


def build_tcl(name: str, part: str, clock_period_ns: float) -> str:
    """Return the script for Vitis HLS 2022.2 to 2024.2: simulation, synthesis, check, co-simulation, export."""
    return f"""\
#
#   vitis_hls -f build.tcl                    synthesise, compare with what is expected, export the IP
#   vitis-run --mode hls --tcl build.tcl      the same from 2024.1 on
#   CSIM=1 COSIM=1 vitis_hls -f build.tcl     also simulate C++ and RTL with the events of vectors/
#
# Run it in the folder of this file. The unified tool takes hls.cfg instead. project/csynth.json says what was found
# and what was expected; where anything was missed or failed the exit status is 1, after all else is done.

set name {{{name}}}
set flags {{{FLAGS}}}
set arguments {{{ARGUMENTS}}}
set result [file join project csynth.json]
set failed {{}}

source check.tcl

proc asked_for {{variable}} {{
  expr {{[info exists ::env($variable)] && [string is true -strict $::env($variable)]}}
}}

proc attempt {{what command}} {{
  if {{[catch {{uplevel #0 $command}} message]}} {{
    puts stderr "build.tcl: $what: $message"
    lappend ::failed $what
  }}
}}

open_project -reset project
set_top $name
add_files $name.cpp -cflags $flags
add_files -tb testbench.cpp -cflags $flags
add_files -tb bridge.cpp -cflags $flags
add_files -tb vectors
open_solution -reset solution -flow_target vivado
set_part {{{part}}}
create_clock -period {_period(clock_period_ns)} -name default
set_clock_uncertainty {UNCERTAINTY}
config_schedule -enable_dsp_full_reg=false

if {{[asked_for CSIM]}} {{
  attempt {{C simulation}} {{csim_design -argv $arguments}}
}}
csynth_design
attempt {{check}} {{
  set missed [check_report [file join project solution syn report ${{name}}_csynth.xml] $result]
  if {{$missed ne ""}} {{error $missed}}
}}
if {{[asked_for COSIM]}} {{
  attempt {{co-simulation}} {{cosim_design -argv $arguments}}
}}
attempt {{export}} {{export_design -format ip_catalog}}
exit [expr {{[llength $failed] > 0}}]
"""


def check_tcl(name: str, timing: Timing) -> str:
    """Return the script that compares a report of C synthesis with what is expected, and writes csynth.json."""
    return f"""\
#
#   tclsh check.tcl REPORT [RESULT]    REPORT: {name}_csynth.xml or csynth.xml; RESULT: csynth.json
#
# Expected are the II and the latency of the HLS, see docs/hls.md of metronn; promised they are of the RTL alone.

set expected {{ii_cycles {timing.ii_cycles} latency_cycles {timing.latency_cycles}}}

# Write found and expected as JSON to `result`; return what was missed as text, empty if nothing was.
proc check_report {{report result}} {{
  set file [open $report]
  set text [read $file]
  close $file
  set lines {{}}
  set missed {{}}
  foreach {{key field}} {{ii_cycles Interval-max latency_cycles Worst-caseLatency}} {{
    set promise [dict get $::expected $key]
    set found null
    regexp "<$field>\\\\s*(\\[0-9\\]+)\\\\s*</$field>" $text match found
    lappend lines "  \\"$key\\": {{\\"found\\": $found, \\"expected\\": $promise}}"
    puts "check.tcl: $key: $found found, $promise expected"
    if {{$found eq "null"}} {{
      lappend missed "the report does not say $field"
    }} elseif {{$found > $promise}} {{
      lappend missed "$key is $found, expected is $promise"
    }}
  }}
  set file [open $result w]
  puts $file "{{\\n[join $lines ",\\n"]\\n}}"
  close $file
  return [join $missed "; "]
}}

if {{[info exists ::argv0] && [file tail $::argv0] eq "check.tcl"}} {{
  set result [expr {{[llength $argv] > 1 ? [lindex $argv 1] : "csynth.json"}}]
  set missed [check_report [lindex $argv 0] $result]
  if {{$missed ne ""}} {{
    puts stderr "check.tcl: $missed"
    exit 1
  }}
}}
"""


def hls_cfg(name: str, part: str, clock_period_ns: float) -> str:
    """Return the configuration of the unified tool."""
    return f"""\
#
#   v++ -c --mode hls --config hls.cfg --work_dir project           synthesise
#   tclsh check.tcl project/hls/syn/report/{name}_csynth.xml project/csynth.json
#   vitis-run --mode hls --csim --config hls.cfg --work_dir project
#   vitis-run --mode hls --cosim --config hls.cfg --work_dir project
#   vitis-run --mode hls --package --config hls.cfg --work_dir project

part={part}

[hls]
flow_target=vivado
syn.file={name}.cpp
syn.top={name}
syn.cflags={FLAGS}
syn.schedule.enable_dsp_full_reg=0
tb.file=testbench.cpp
tb.file=bridge.cpp
tb.file=vectors
tb.cflags={FLAGS}
clock={_period(clock_period_ns)}ns
clock_uncertainty={UNCERTAINTY}
csim.argv={ARGUMENTS}
cosim.argv={ARGUMENTS}
package.output.format=ip_catalog
"""
