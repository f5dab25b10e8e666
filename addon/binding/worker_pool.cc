#include "worker_pool.h"

namespace kvreel {

void PooledJob::help(uint32_t worker) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!starting_) {
    starting_ = true;
    lock.unlock();
    const Status status = job_->start(workers_);
    lock.lock();
    started_ = true;
    if (status != Status::kOk) status_ = status;
    advance(lock);
  }
  while (!finished_) {
    if (!started_ || next_unit_ >= job_->units(phase_) || status_ != Status::kOk) {
      phase_changed_.wait(lock);
      continue;
    }
    const uint32_t unit = next_unit_++;
    running_++;
    lock.unlock();
    const bool cancelled = cancel_ != nullptr && __atomic_load_n(cancel_, __ATOMIC_RELAXED) != 0;
    const Status status = cancelled ? Status::kCancelled : job_->run(phase_, unit, worker);
    lock.lock();
    finish_unit(status, lock);
  }
}

void PooledJob::finish_unit(Status status, std::unique_lock<std::mutex>& lock) {
  running_--;
  if (status != Status::kOk && status_ == Status::kOk) status_ = status;
  if (running_ > 0 || (status_ == Status::kOk && next_unit_ < job_->units(phase_))) return;
  if (status_ == Status::kOk) {
    status_ = job_->settle(phase_);
    phase_++;
    next_unit_ = 0;
  }
  advance(lock);
}

// Called with the lock held and nothing running: skips empty phases, ends the job after the last one or a failure, wakes the others.
void PooledJob::advance(std::unique_lock<std::mutex>& lock) {
  while (status_ == Status::kOk && phase_ < job_->phases() && job_->units(phase_) == 0) status_ = job_->settle(phase_++);
  if (status_ == Status::kOk && phase_ < job_->phases()) {
    phase_changed_.notify_all();
    return;
  }
  finished_ = true;
  phase_changed_.notify_all();
  lock.unlock();
  done_(status_);
  lock.lock();
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkerPool::submit(std::shared_ptr<PooledJob> job) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (queue_.size() >= kMaxQueued) return false;
  for (uint32_t worker = 0; worker < job->workers(); worker++) queue_.push_back({job, worker});
  for (; threads_.size() < thread_count_ && idle_ < queue_.size(); idle_++) threads_.emplace_back([this] { work(); });
  // Not all of them: a thread that wakes for nothing takes the processor from one that works.
  for (uint32_t worker = 0; worker < job->workers(); worker++) wake_.notify_one();
  return true;
}

void WorkerPool::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Ticket ticket = std::move(queue_.front());
    queue_.pop_front();
    idle_--;
    lock.unlock();
    ticket.job->help(ticket.worker);
    ticket.job.reset();
    lock.lock();
    idle_++;
  }
}

}  // namespace kvreel
