// What operators and lessees do that etcdctl has no command for.
//
//	operate alarm ENDPOINT get|activate|deactivate MEMBER TYPE    raises and clears alarms
//	operate leases ENDPOINT COUNT TTL    grants leases that end together; says how long they took to go
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"
)

const patience = 120 * time.Second

func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return n
}

// "etcdserver: corrupt cluster (DataLoss)": the answer is the outcome, so it goes to stdout.
func printError(err error) {
	s := status.Convert(err)
	fmt.Printf("%s (%s)\n", s.Message(), s.Code())
}

func alarm(ctx context.Context, client *clientv3.Client, args []string) {
	actions := map[string]pb.AlarmRequest_AlarmAction{
		"get": pb.AlarmRequest_GET, "activate": pb.AlarmRequest_ACTIVATE,
		"deactivate": pb.AlarmRequest_DEACTIVATE}
	answer, err := pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{
		Action: actions[args[0]], MemberID: number(args[1]), Alarm: pb.AlarmType(number(args[2]))})
	if err != nil {
		printError(err)
		return
	}
	for _, a := range answer.Alarms {
		fmt.Printf("member %d alarm %d\n", a.MemberID, int32(a.Alarm))
	}
	fmt.Printf("%d alarms\n", len(answer.Alarms))
}

func grantAll(ctx context.Context, client *clientv3.Client, count int, ttl int64) error {
	var wait sync.WaitGroup
	var mutex sync.Mutex
	var failed error
	for worker := 0; worker < 50; worker++ {
		wait.Add(1)
		go func(mine int) {
			defer wait.Done()
			for ; mine < count; mine += 50 {
				if _, err := client.Grant(ctx, ttl); err != nil {
					mutex.Lock()
					failed = err
					mutex.Unlock()
					return
				}
			}
		}(worker)
	}
	wait.Wait()
	return failed
}

func leases(ctx context.Context, client *clientv3.Client, args []string) error {
	count, ttl := int(number(args[0])), int64(number(args[1]))
	began := time.Now()
	if err := grantAll(ctx, client, count, ttl); err != nil {
		return err
	}
	fmt.Printf("granted %d in %.1f s\n", count, time.Since(began).Seconds())
	due := began.Add(time.Duration(ttl) * time.Second)
	for {
		answer, err := client.Leases(ctx)
		if err != nil {
			return err
		}
		if len(answer.Leases) == 0 {
			fmt.Printf("gone %.1f s after the first was due\n", time.Since(due).Seconds())
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func main() {
	if len(os.Args) != 5 && len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: see the head of main.go")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[2]}})
	if err == nil && os.Args[1] == "alarm" {
		alarm(ctx, client, os.Args[3:])
	} else if err == nil {
		err = leases(ctx, client, os.Args[3:])
	}
	if err != nil {
		printError(err)
		os.Exit(1)
	}
}
