// Threads of our own: coding a chunk takes milliseconds to a second, too long for the four threads that Node shares with files and DNS.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../codec/chunk.h"

namespace kvreel {

// Carries one ChunkJob through its phases on as many threads as come to help.
class PooledJob {
 public:
  // `cancel` is polled between units; nonzero ends the job with kCancelled. `done` is called once, on a pool thread, as the last thing.
  PooledJob(ChunkJob* job, uint32_t workers, const volatile int32_t* cancel, std::function<void(Status)> done)
      : job_(job), workers_(workers), cancel_(cancel), done_(std::move(done)) {
    job->cancel_with(cancel);
  }

  uint32_t workers() const noexcept { return workers_; }
  // Works until nothing is left to do. Called by up to workers() threads, each with its own number.
  void help(uint32_t worker);

 private:
  void finish_unit(Status status, std::unique_lock<std::mutex>& lock);
  void advance(std::unique_lock<std::mutex>& lock);

  std::unique_ptr<ChunkJob> job_;
  const uint32_t workers_;
  const volatile int32_t* const cancel_;
  std::function<void(Status)> done_;
  std::mutex mutex_;
  std::condition_variable phase_changed_;
  bool starting_ = false, started_ = false, finished_ = false;
  uint32_t phase_ = 0, next_unit_ = 0, running_ = 0;
  Status status_ = Status::kOk;
};

class WorkerPool {
 public:
  static constexpr size_t kMaxQueued = 1024;

  explicit WorkerPool(uint32_t threads) noexcept : thread_count_(threads) {}
  // Lets the queued jobs finish first; cancel them before if they must not.
  ~WorkerPool();

  uint32_t threads() const noexcept { return thread_count_; }
  // False, and the job is not taken, if the queue is full.
  bool submit(std::shared_ptr<PooledJob> job);

 private:
  struct Ticket {
    std::shared_ptr<PooledJob> job;
    uint32_t worker;
  };
  void work();

  const uint32_t thread_count_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Ticket> queue_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;  // threads that hold no ticket
  bool stopping_ = false;
};

}  // namespace kvreel
