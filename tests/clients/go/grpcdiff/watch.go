package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// watchCall watches from some revision until all that has happened was told, and folds what came into
// one WatchResponse: how events are spread over messages is not compared, their order is.
func (g *generator) watchCall() call {
	key := g.key()
	create := &pb.WatchCreateRequest{Key: key, RangeEnd: g.end(key), StartRevision: g.rev(),
		PrevKv: g.chance(50), Fragment: g.chance(20)}
	if g.chance(20) {
		create.Filters = append(create.Filters, pick(g, pb.WatchCreateRequest_NOPUT,
			pb.WatchCreateRequest_NODELETE))
	}
	if g.chance(5) {
		create.WatchId = pick(g, int64(7), 1<<40, -5)
	}
	if create.StartRevision > g.revision {
		create.StartRevision = 0
	}
	until := g.revision
	return unary("Watch", create, func(ctx context.Context, s *side, r *pb.WatchCreateRequest) (*pb.WatchResponse, error) {
		return watchUntil(ctx, s, r, until)
	})
}

func watchUntil(ctx context.Context, s *side, create *pb.WatchCreateRequest, revision int64) (*pb.WatchResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.watch.Watch(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		return nil, err
	}
	answers := make(chan *pb.WatchResponse)
	failed := make(chan error, 1)
	go func() {
		for {
			answer, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case answers <- answer:
			case <-ctx.Done():
				return
			}
		}
	}()
	sum := &pb.WatchResponse{Header: &pb.ResponseHeader{}}
	ask := time.NewTicker(10 * time.Millisecond)
	defer ask.Stop()
	created := false
	for {
		select {
		case err := <-failed:
			return nil, err
		case <-ask.C:
			// Answered only when everything before was told, so: again and again.
			if created {
				if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
					ProgressRequest: &pb.WatchProgressRequest{}}}); err != nil {
					return nil, err
				}
			}
		case answer := <-answers:
			if answer.Created {
				created = true
				sum.Created, sum.WatchId = true, answer.WatchId
			}
			if answer.Canceled {
				sum.Canceled, sum.CancelReason = true, answer.CancelReason
				sum.CompactRevision = answer.CompactRevision
				return sum, nil
			}
			if err := take(sum, answer); err != nil {
				return nil, err
			}
			if answer.WatchId == -1 && len(answer.Events) == 0 && answer.Header.Revision >= revision {
				return sum, nil
			}
		}
	}
}

func take(sum, answer *pb.WatchResponse) error {
	if len(answer.Events) > 0 && answer.WatchId != sum.WatchId {
		return fmt.Errorf("events of watch %d", answer.WatchId)
	}
	for _, ev := range answer.Events {
		sum.Events = append(sum.Events, proto.Clone(ev).(*mvccpb.Event))
	}
	return nil
}
