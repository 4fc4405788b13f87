// What a put costs Go's clientv3: the counterpart of the scene "bench" of tests/clients/libtrivet_faults.c.
// clientbench ENDPOINTS SECONDS
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const window = 256

func main() {
	seconds, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(os.Args[1], ",")})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	var number, done, failed atomic.Int64
	var wait sync.WaitGroup
	value := strings.Repeat("\x00", 256)
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	for i := 0; i < window; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for time.Now().Before(end) {
				key := fmt.Sprintf("b/%08d", number.Add(1)%100000)
				if _, err := c.Put(context.Background(), key, value); err != nil {
					failed.Add(1)
				} else {
					done.Add(1)
				}
			}
		}()
	}
	wait.Wait()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	cpu := float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
	fmt.Printf("puts %d failed %d in %d s, cpu %.2f s: %.0f puts per cpu second\n",
		done.Load(), failed.Load(), seconds, cpu, float64(done.Load())/cpu)
}
