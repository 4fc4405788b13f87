package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"trivet.test/clients/internal/harness"
)

func readStream(ctx context.Context, s *side, r *pb.RangeRequest) ([]*pb.RangeResponse, error) {
	stream, err := s.kv.RangeStream(ctx, r)
	if err != nil {
		return nil, err
	}
	return receiveAll(stream)
}

func receiveAll(stream pb.KV_RangeStreamClient) ([]*pb.RangeResponse, error) {
	var messages []*pb.RangeResponse
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		messages = append(messages, m.RangeResponse)
	}
}

// --- many keys, where messages are cut otherwise than etcd's ---

const (
	smallKeys = 6000
	largeKeys = 60
	largeSize = 400000 // ten of them are more than etcd wants in a message
)

// joined is the answer that a stream's messages make together. Header, count and more are in the last
// message and in no other.
func joined(messages []*pb.RangeResponse) (*pb.RangeResponse, error) {
	sum := &pb.RangeResponse{}
	for i, m := range messages {
		last := i == len(messages)-1
		if last != (m.Header != nil) || (!last && (m.More || m.Count != 0 || len(m.Kvs) == 0)) {
			return nil, fmt.Errorf("message %d of %d: header %v, more %v, count %d, %d keys", i, len(messages),
				m.Header, m.More, m.Count, len(m.Kvs))
		}
		sum.Kvs = append(sum.Kvs, m.Kvs...)
		sum.Header, sum.More, sum.Count = m.Header, m.More, m.Count
	}
	return sum, nil
}

// sizes says how many keys the messages have, up to the first with more than 1000: so far they are cut
// as etcd cuts them.
func sizes(messages []*pb.RangeResponse) (counts []int) {
	for _, m := range messages {
		if len(m.Kvs) > 1000 {
			break
		}
		counts = append(counts, len(m.Kvs))
	}
	return counts
}

func fill(ctx context.Context, s *side, prefix string, keys, size int) error {
	const batch = 120
	for i := 0; i < keys; {
		t, bytes := &pb.TxnRequest{}, 0
		for ; i < keys && len(t.Success) < batch && bytes < 1000000; i++ {
			value := make([]byte, size+i%7)
			bytes += len(value)
			t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: []byte(fmt.Sprintf("%s%05d", prefix, i)), Value: value}}})
		}
		if _, err := s.kv.Txn(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func longRequests(revision int64) (requests []*pb.RangeRequest) {
	for _, prefix := range []string{"small/", "large/"} {
		all := func() *pb.RangeRequest {
			return &pb.RangeRequest{Key: []byte(prefix), RangeEnd: []byte(prefix[:5] + "0")}
		}
		for _, limit := range []int64{0, 1, 10, 11, 59, 60, 61, 1000, smallKeys - 1, smallKeys, smallKeys + 1, -1} {
			r := all()
			r.Limit = limit
			requests = append(requests, r)
		}
		keysOnly, countOnly, old, serializable := all(), all(), all(), all()
		keysOnly.KeysOnly, countOnly.CountOnly, serializable.Serializable = true, true, true
		countOnly.Limit, old.Revision = 5, revision
		// The keys have one creation in hundreds: each order of a message is in there.
		sorted := all()
		sorted.SortTarget, sorted.Limit = pb.RangeRequest_CREATE, 10
		requests = append(requests, keysOnly, countOnly, old, serializable, sorted)
	}
	return requests
}

func compareLongStreams(tally *harness.Tally, right, tested *side) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, s := range []*side{right, tested} {
		err := fill(ctx, s, "small/", smallKeys, 100)
		if err == nil {
			err = fill(ctx, s, "large/", largeKeys, largeSize)
		}
		if err != nil {
			tally.Fail("%s: filling: %v", s.name, err)
			return
		}
	}
	now, err := tested.kv.Range(ctx, &pb.RangeRequest{Key: []byte("small/")})
	if err != nil {
		tally.Fail("%v", err)
		return
	}
	for _, r := range longRequests(now.Header.Revision - 10) {
		compareLong(ctx, tally, right, tested, r)
	}
	for _, s := range []*side{right, tested} {
		leaveEarly(ctx, tally, s)
		slowReader(ctx, tally, s, s == tested)
	}
}

// compareLong looks at the same stream of both, and at the unary answer.
func compareLong(ctx context.Context, tally *harness.Tally, right, tested *side, r *pb.RangeRequest) {
	want, errWant := readStream(ctx, right, proto.Clone(r).(*pb.RangeRequest))
	got, errGot := readStream(ctx, tested, proto.Clone(r).(*pb.RangeRequest))
	whole, errWhole := tested.kv.Range(ctx, proto.Clone(r).(*pb.RangeRequest))
	if errWant != nil || errGot != nil || errWhole != nil {
		tally.Fail("RangeStream %s: %v, %v, %v", brief(r), errWant, errGot, errWhole)
		return
	}
	a, errWant := joined(want)
	b, errGot := joined(got)
	if errWant != nil || errGot != nil {
		tally.Fail("RangeStream %s: want: %v, got: %v", brief(r), errWant, errGot)
		return
	}
	for _, m := range []*pb.RangeResponse{a, b, whole} {
		normalize(m)
	}
	check(tally, proto.Equal(a, b), "RangeStream %s: %d keys, more %v, count %d, not %d, %v, %d", brief(r),
		len(b.Kvs), b.More, b.Count, len(a.Kvs), a.More, a.Count)
	check(tally, proto.Equal(whole, b), "RangeStream %s: not what Range answers", brief(r))
	if r.Limit >= 0 {
		x, y := fmt.Sprint(sizes(want)), fmt.Sprint(sizes(got))
		check(tally, x == y, "RangeStream %s: messages of %s keys, not %s", brief(r), y, x)
	}
}

// leaveEarly begins streams and goes away in the middle of them, or lets their time run out. What
// follows shows whether the server minds.
func leaveEarly(ctx context.Context, tally *harness.Tally, s *side) {
	for i := 0; i < 40; i++ {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(1+i)*time.Millisecond)
		stream, err := s.kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})
		for n := 0; err == nil && (i%2 == 0 || n < i/2); n++ {
			_, err = stream.Recv()
		}
		cancel()
		if err != nil && !errors.Is(err, io.EOF) && status.Code(err) != codes.DeadlineExceeded {
			tally.Fail("%s: a stream that ends early: %v", s.name, err)
		}
	}
}

// slowReader does not read while all keys are written anew and what it is reading is compacted. Then
// etcd may say so, and trivet goes on.
func slowReader(ctx context.Context, tally *harness.Tally, s *side, completes bool) {
	all := &pb.RangeRequest{Key: []byte("small/"), RangeEnd: []byte("small0")}
	before, err := s.kv.Range(ctx, proto.Clone(all).(*pb.RangeRequest))
	if err != nil {
		tally.Fail("%s: %v", s.name, err)
		return
	}
	stream, err := s.kv.RangeStream(ctx, all)
	if err != nil {
		tally.Fail("%s: %v", s.name, err)
		return
	}
	first, err := stream.Recv()
	if err == nil {
		err = fill(ctx, s, "small/", smallKeys, 150)
	}
	after, errAfter := s.kv.Range(ctx, &pb.RangeRequest{Key: []byte("small/"), Limit: 1})
	if err != nil || errAfter != nil {
		tally.Fail("%s: a slow reader: %v, %v", s.name, err, errAfter)
		return
	}
	if _, err := s.kv.Compact(ctx, &pb.CompactionRequest{Revision: after.Header.Revision, Physical: false}); err != nil {
		tally.Fail("%s: %v", s.name, err)
		return
	}
	time.Sleep(300 * time.Millisecond) // what the compaction gave up is being freed
	rest, err := receiveAll(stream)
	if err != nil {
		check(tally, !completes, "%s: a slow reader: %v", s.name, err)
		return
	}
	sum, err := joined(append([]*pb.RangeResponse{first.RangeResponse}, rest...))
	check(tally, err == nil && sameKeys(sum.Kvs, before.Kvs) && sum.Header.Revision == before.Header.Revision,
		"%s: a slow reader: not what was there when it began (%v)", s.name, err)
}

func sameKeys(a, b []*mvccpb.KeyValue) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !harness.SameKV(a[i], b[i]) {
			return false
		}
	}
	return true
}

func check(tally *harness.Tally, good bool, format string, args ...any) {
	if good {
		tally.Pass()
	} else {
		tally.Fail(format, args...)
	}
}
