package keda

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What is pushed may be lost where nobody sees it: KEDA drops it while it does not know its own metric's name, and when
// its API server refuses. So it comes again, as long as it holds.
const (
	againAsleep = 2 * time.Second  // while the function has no pods
	againAwake  = 15 * time.Second // while it has some, so that KEDA's cooldown does not begin
	// atMost is the least time between two.
	atMost = 100 * time.Millisecond
)

// listen has a stream poked about a function, also one that there is not yet: KEDA asks ever more seldom after
// errors, and a reload may bring it. end ends that.
func (s *Server) listen(r *reference) (poked chan struct{}, end func(), err error) {
	name := r.metadata[functionKey]
	if _, err := s.function(r); err != nil && status.Code(err) != codes.NotFound {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == streams {
		return nil, nil, status.Errorf(codes.ResourceExhausted, "there are %d streams, and no more are served", streams)
	}
	poked = make(chan struct{}, 1)
	f := s.ask(name)
	f.streams[poked] = true
	s.open++
	return poked, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(f.streams, poked)
		if f.asked = s.Now(); len(f.streams) == 0 && s.live.Load().Function(name) == nil {
			delete(s.functions, name) // or names that somebody makes up would stay
		}
		s.open--
	}, nil
}

// streamActive answers StreamIsActive: true at once when a function has something to do, and again as long as it has.
// KEDA does nothing about false.
func (s *Server) streamActive(r *reference, answers grpc.ServerStream) error {
	poked, end, err := s.listen(r)
	if err != nil {
		return err
	}
	defer end()
	for {
		wait, active := s.due(r)
		if active {
			if err := answers.SendMsg(activity(true)); err != nil {
				return err
			}
			if !s.wait(answers, atMost, nil) {
				return nil
			}
		}
		if !s.wait(answers, wait, poked) {
			return nil
		}
	}
}

// due says whether a stream is to be told that its function is active, and after which time to ask again at the latest.
func (s *Server) due(r *reference) (time.Duration, bool) {
	fn, err := s.function(r)
	switch {
	case err != nil || !s.meters.Active(fn.Name, s.Now()):
		return never, false
	case len(fn.Pods) == 0:
		return againAsleep, true
	}
	return againAwake, true
}

// never is so late that a look does not matter.
const never = time.Hour

// wait waits until a stream is poked, or for a time; false: it has ended.
func (s *Server) wait(answers grpc.ServerStream, d time.Duration, poked <-chan struct{}) bool {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-over.C:
	case <-poked:
	case <-answers.Context().Done():
		return false
	case <-s.ending:
		return false
	}
	return true
}

// streamSpec answers StreamMetricSpec: what GetMetricSpec answers, at once and whenever it changes.
func (s *Server) streamSpec(r *reference, answers grpc.ServerStream) error {
	poked, end, err := s.listen(r)
	if err != nil {
		return err
	}
	defer end()
	last := metric(0)
	for {
		target, err := s.target(r)
		switch {
		case err == nil && target != last:
			if err := answers.SendMsg(target); err != nil {
				return err
			}
			last = target
		case err != nil && status.Code(err) != codes.NotFound:
			return err
		}
		if !s.wait(answers, never, poked) {
			return nil
		}
	}
}
