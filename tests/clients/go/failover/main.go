// Failover writes without a pause and measures how long a cluster whose leader is struck takes no write.
//
// Each of its writers makes one write after another, each with a short deadline, at the next member when
// one fails. It is told by lines on standard input what to do, and answers each with one line of JSON:
//
//	arm                 a strike comes soon
//	strike PID SIGNAL   send it, and wait for the first acknowledged write that was begun after that
//	mark                the same, but what strikes is somebody else's: it did so just now
//	quit                end
//
// "first" is the time from the signal to that write's answer; "gap" the longest time without
// any answer, from before the signal until writes had been answered for a second.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"trivet.test/clients/internal/harness"
)

const (
	pauseFailed = 2 * time.Millisecond
	patience    = 60 * time.Second
	settled     = time.Second
)

type write struct {
	begun, ended time.Time
}

type state struct {
	mu     sync.Mutex
	acks   []write // of the last strike's time
	failed int
}

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "of all members, separated by commas")
	writers := flag.Int("writers", 4, "goroutines")
	deadline := flag.Duration("deadline", 100*time.Millisecond, "of one write")
	flag.Parse()
	s := &state{}
	for i := 0; i < *writers; i++ {
		var clients []*clientv3.Client
		for _, endpoint := range strings.Split(*endpoints, ",") {
			clients = append(clients, harness.Connect(clientv3.Config{Endpoints: []string{endpoint},
				DialTimeout: 5 * time.Second, BackoffWaitBetween: time.Millisecond, MaxUnaryRetries: 1}))
		}
		go s.write(i, clients, *deadline)
	}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Fields(input.Text())
		switch words[0] {
		case "arm":
			s.mu.Lock()
			s.acks, s.failed = nil, 0
			s.mu.Unlock()
			time.Sleep(settled)
			fmt.Println("{}")
		case "strike", "mark":
			answer, _ := json.Marshal(s.strike(words))
			fmt.Println(string(answer))
		case "quit":
			return
		}
	}
}

func (s *state) write(id int, clients []*clientv3.Client, deadline time.Duration) {
	member := id % len(clients)
	for serial := 0; ; serial++ {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		begun := time.Now()
		_, err := clients[member].Put(ctx, fmt.Sprintf("failover/%d", id), fmt.Sprint(serial))
		ended := time.Now()
		cancel()
		s.mu.Lock()
		if err == nil {
			s.acks = append(s.acks, write{begun, ended})
		} else {
			s.failed++
		}
		s.mu.Unlock()
		if err != nil {
			member = (member + 1) % len(clients)
			time.Sleep(pauseFailed)
		}
	}
}

func (s *state) strike(words []string) map[string]any {
	at := time.Now()
	if words[0] == "strike" {
		pid, _ := strconv.Atoi(words[1])
		number, _ := strconv.Atoi(words[2])
		if err := syscall.Kill(pid, syscall.Signal(number)); err != nil {
			return map[string]any{"error": err.Error()}
		}
	}
	for {
		time.Sleep(10 * time.Millisecond)
		first, gap := s.look(at)
		if first > 0 && time.Since(at) > first+settled {
			return map[string]any{"first_ms": ms(first), "gap_ms": ms(gap), "failed": s.failed,
				"writes": len(s.acks)}
		}
		if time.Since(at) > patience {
			return map[string]any{"error": "no write was answered"}
		}
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (s *state) look(at time.Time) (first, gap time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.acks {
		if w.begun.After(at) && (first == 0 || w.ended.Sub(at) < first) {
			first = w.ended.Sub(at)
		}
		if i > 0 {
			gap = max(gap, w.ended.Sub(s.acks[i-1].ended))
		}
	}
	return first, gap
}
