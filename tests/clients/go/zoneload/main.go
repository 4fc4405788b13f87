// Zoneload is clientv3's counterpart of the scene "load" of tests/clients/libtrivet_load.c: the same calls, and
// the same lines about each.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	clientv3 "go.etcd.io/etcd/client/v3"

	"trivet.test/clients/internal/harness"
)

type sample struct {
	began, latency time.Duration
	write          bool
	failed         int
}

// monotonic is the clock that the judge of the lines has as well.
func monotonic() time.Duration {
	const clockMonotonic = 1
	var t syscall.Timespec
	_, _, failed := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0)
	if failed != 0 {
		panic(failed)
	}
	return time.Duration(t.Nano())
}

func load(client *clientv3.Client, number, writes int, think time.Duration, until time.Time) []sample {
	var samples []sample
	rng := rand.New(rand.NewSource(int64(number)))
	for time.Now().Before(until) {
		s := sample{began: monotonic(), write: rng.Intn(100) < writes}
		key := fmt.Sprintf("z/%d", rng.Intn(1000))
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		var err error
		if s.write {
			_, err = client.Put(ctx, key, "0123456789abcdef")
		} else {
			_, err = client.Get(ctx, key)
		}
		cancel()
		s.latency = monotonic() - s.began
		if err != nil {
			s.failed = 1
		}
		samples = append(samples, s)
		time.Sleep(think/2 + time.Duration(rng.Int63n(int64(think))))
	}
	return samples
}

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "of all members, separated by commas")
	clients := flag.Int("clients", 64, "each with connections of its own")
	seconds := flag.Int("seconds", 10, "how long")
	writes := flag.Int("writes", 50, "percent")
	think := flag.Duration("think", 40*time.Millisecond, "between two calls of a client, in the middle")
	flag.Parse()
	var all []*clientv3.Client
	for i := 0; i < *clients; i++ {
		all = append(all, harness.Connect(clientv3.Config{Endpoints: strings.Split(*endpoints, ","),
			DialTimeout: 5 * time.Second, DialKeepAliveTime: 10 * time.Second,
			DialKeepAliveTimeout: 3 * time.Second}))
	}
	fmt.Println("running")
	until := time.Now().Add(time.Duration(*seconds) * time.Second)
	results := make([][]sample, *clients)
	var group sync.WaitGroup
	for i := range all {
		group.Add(1)
		go func() {
			results[i] = load(all[i], i, *writes, *think, until)
			group.Done()
		}()
	}
	group.Wait()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, samples := range results {
		for _, s := range samples {
			kind := "r"
			if s.write {
				kind = "w"
			}
			fmt.Fprintf(out, "%s %d %d %d\n", kind, s.began.Milliseconds(), s.latency.Microseconds(), s.failed)
		}
	}
}
