// Histories plays the same random history of requests to a new etcd and to a new trivet, step by step,
// and compares every answer, event, error and header.
//
// A history is made from a seed: all services, boundary and bad values, watches and leases beside them,
// old revisions, compactions, alarms, authentication on and off, restarts. Left out of the comparison are
// ids, terms, times and sizes. The first difference ends a history; it is then made as short as it can be,
// shown, and kept in a file that -replay plays again.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"trivet.test/clients/internal/harness"
)

const allServices = "kv,watch,lease,cluster,maintenance,auth,lock,election,raw,restart"

func main() {
	p := &player{times: map[string]time.Duration{}}
	flag.StringVar(&p.etcd, "etcd", "", "etcd's program")
	flag.StringVar(&p.trivetd, "trivetd", "", "trivet's program")
	flag.StringVar(&p.dir, "dir", "", "where the data goes; a folder in memory makes it fast")
	etcdFlags := flag.String("etcd-flags", "--unsafe-no-fsync --log-level error --bcrypt-cost 4", "")
	trivetFlags := flag.String("trivet-flags", "--log-level warn --bcrypt-cost 4", "")
	seed := flag.Int64("seed", 1, "of the first history")
	count := flag.Int("histories", 10, "how many, if the time suffices")
	steps := flag.Int("steps", 2000, "of each")
	seconds := flag.Float64("seconds", 600, "no history begins after that")
	services := flag.String("services", allServices, "what requests are made of")
	replay := flag.String("replay", "", "a file to play again instead")
	keep := flag.String("keep", ".", "where to keep histories that differ")
	parallel := flag.Int("parallel", 4, "how many at a time: they mostly wait")
	shrinkSeconds := flag.Float64("shrink-seconds", 60, "for making one shorter")
	flag.Parse()
	p.etcdFlags, p.trivetFlags = strings.Fields(*etcdFlags), strings.Fields(*trivetFlags)
	if *replay != "" {
		os.Exit(playAgain(p, *replay))
	}
	chosen := map[string]bool{}
	for _, name := range strings.Split(*services, ",") {
		chosen[name] = true
	}
	c := &campaign{player: p, services: chosen, steps: *steps, keep: *keep, shrinkSeconds: *shrinkSeconds,
		seed: *seed, end: *seed + int64(*count), until: time.Now().Add(time.Duration(*seconds * float64(time.Second)))}
	begin := time.Now()
	c.run(*parallel)
	fmt.Printf("%d requests of %d histories in %.0f s\n", c.compared, c.played, time.Since(begin).Seconds())
	p.printTimes()
	c.tally.Finish()
}

// A campaign plays many histories, some at a time.
type campaign struct {
	player        *player
	services      map[string]bool
	steps         int
	keep          string
	shrinkSeconds float64
	end           int64
	until         time.Time
	tally         harness.Tally

	mu       sync.Mutex
	seed     int64 // the next one
	played   int
	compared int
	shown    time.Time
}

func (c *campaign) run(parallel int) {
	c.shown = time.Now()
	var wait sync.WaitGroup
	for n := 0; n < parallel; n++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for seed, ok := c.next(); ok; seed, ok = c.next() {
				c.one(seed)
			}
		}()
	}
	wait.Wait()
}

func (c *campaign) next() (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seed++
	return c.seed - 1, c.seed <= c.end && time.Now().Before(c.until)
}

func (c *campaign) one(seed int64) {
	h := history(seed, c.services, c.steps)
	found, played, err := c.player.play(h)
	for i := 0; i < played; i++ {
		c.tally.Pass()
	}
	if err != nil {
		c.tally.Fail("seed %d: %v", seed, err)
	} else if found != nil {
		if again := c.again(h); again != nil {
			c.report(seed, h[:again.at+1], again)
		} else {
			c.tally.Fail("seed %d, step %d, and not in two more runs: %s\n want %s\n got  %s", seed, found.at,
				h[found.at].String(), found.want, found.got)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.played++
	c.compared += played
	if time.Since(c.shown) > time.Minute {
		c.shown = time.Now()
		fmt.Printf("%d requests of %d histories, %d differ\n", c.compared, c.played, c.tally.Failed())
	}
}

// again looks whether the history differs in one of two more runs.
func (c *campaign) again(h []step) *difference {
	for n := 0; n < 2; n++ {
		if found, _, err := c.player.play(h); err == nil && found != nil {
			return found
		}
	}
	return nil
}

func (c *campaign) report(seed int64, h []step, found *difference) {
	h, found = shrink(c.player, h, found, c.shrinkSeconds)
	path := filepath.Join(c.keep, fmt.Sprintf("history-%d.json", seed))
	if err := save(path, h); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	var text strings.Builder
	for i := range h {
		if len(h) <= 40 || i >= len(h)-40 {
			fmt.Fprintf(&text, "  %d %s\n", i, h[i].String())
		}
	}
	c.tally.Fail("seed %d, %d steps, kept as %s\n%s want %s\n got  %s", seed, len(h), path, text.String(),
		found.want, found.got)
}

func playAgain(p *player, path string) int {
	h, err := load(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	found, played, err := p.play(h)
	switch {
	case err != nil:
		fmt.Println(err)
	case found != nil:
		fmt.Printf("step %d: %s\n want %s\n got  %s\n", found.at, h[found.at].String(), found.want, found.got)
	default:
		fmt.Printf("%d passed, 0 failed\n", played)
		return 0
	}
	return 1
}
