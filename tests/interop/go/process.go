package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// cpuSeconds is the user and system time of this process so far.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // RUSAGE_SELF and a valid pointer: the kernel has no reason to refuse
	}
	return (time.Duration(usage.Utime.Nano()) + time.Duration(usage.Stime.Nano())).Seconds()
}

// residentKiB is the resident memory, with what is garbage given back to the system before.
func residentKiB() (int, error) {
	runtime.GC()
	debug.FreeOSMemory()
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, err
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), "VmRSS:"); found {
			var kib int
			_, err := fmt.Sscanf(value, "%d kB", &kib)
			return kib, err
		}
	}
	return 0, fmt.Errorf("%s has no VmRSS", status.Name())
}

// measured runs the work, which counts its operations, and says what it cost this process.
func measured(work func() (int, error)) (facts, error) {
	cpu, start := cpuSeconds(), time.Now()
	operations, err := work()
	if err != nil {
		return nil, err
	}
	wall := time.Since(start)
	return facts{"ok": true, "ops": operations, "wall_s": wall.Seconds(), "cpu_s": cpuSeconds() - cpu}, nil
}

// percentiles sorts the latencies and takes the nearest rank.
func percentiles(latencies []time.Duration) facts {
	if len(latencies) == 0 {
		return facts{"p50": nil, "p99": nil}
	}
	slices.Sort(latencies)
	rank := func(percent int) float64 {
		return float64(latencies[(len(latencies)*percent+99)/100-1].Nanoseconds()) / 1e3
	}
	return facts{"p50": rank(50), "p99": rank(99)}
}
