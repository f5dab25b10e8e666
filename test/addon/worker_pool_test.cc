#include "worker_pool.h"

#include <atomic>
#include <chrono>

#include "check.h"

using namespace kvreel;
using namespace kvreel_test;

namespace {

// What a job did, for a test to look at after the job is gone.
struct Record {
  std::atomic<uint32_t> starts{0}, runs{0}, settles{0}, done{0};
  std::atomic<uint32_t> wrong{0};  // units run twice, in the wrong phase, or two at a time by one worker
  std::atomic<int> status{-1};
};

// Checks that it is carried out as ChunkJob says.
class CheckedJob final : public ChunkJob {
 public:
  struct Options {
    std::vector<uint32_t> units;  // of each phase
    uint32_t workers;
    int32_t failing_phase = -1, failing_unit = -1;  // the unit that fails; -1 as unit: settle()
    bool start_fails = false;
    std::function<void()> in_unit = {};
  };

  CheckedJob(const Options& options, Record* record) : options_(options), record_(record) {
    uint32_t most = 0;
    for (const uint32_t units : options.units) most = units > most ? units : most;
    ran_ = std::vector<std::atomic<uint32_t>>(most * options.units.size() + 1);
    busy_ = std::vector<std::atomic<bool>>(options.workers);
    most_ = most;
  }

  Status start(uint32_t workers) noexcept override {
    record_->starts++;
    wrong_if(workers != options_.workers || record_->runs != 0);
    return options_.start_fails ? Status::kOutOfMemory : Status::kOk;
  }
  uint32_t phases() const noexcept override { return uint32_t(options_.units.size()); }
  uint32_t units(uint32_t phase) const noexcept override { return options_.units[phase]; }

  Status run(uint32_t phase, uint32_t unit, uint32_t worker) noexcept override {
    wrong_if(record_->starts != 1 || phase != phase_ || unit >= options_.units[phase] || worker >= options_.workers);
    wrong_if(ran_[phase * most_ + unit]++ != 0 || busy_[worker].exchange(true));
    record_->runs++;
    // Not atomic: only the pool's own order between phases keeps ThreadSanitizer quiet about it.
    if (unit == 0) plain_++;
    if (options_.in_unit) options_.in_unit();
    busy_[worker] = false;
    const bool fails = int32_t(phase) == options_.failing_phase && int32_t(unit) == options_.failing_unit;
    return fails ? Status::kCorrupt : Status::kOk;
  }

  Status settle(uint32_t phase) noexcept override {
    uint32_t ran = 0;
    for (uint32_t unit = 0; unit < options_.units[phase]; unit++) ran += ran_[phase * most_ + unit];
    wrong_if(phase != phase_ || ran != options_.units[phase]);
    plain_++;
    phase_++;
    record_->settles++;
    return int32_t(phase) == options_.failing_phase && options_.failing_unit == -1 ? Status::kUnsupported : Status::kOk;
  }

 private:
  void wrong_if(bool wrong) noexcept { record_->wrong += wrong; }

  const Options options_;
  Record* const record_;
  uint32_t most_ = 0, phase_ = 0, plain_ = 0;
  std::vector<std::atomic<uint32_t>> ran_;
  std::vector<std::atomic<bool>> busy_;
};

bool submit(WorkerPool* pool, const CheckedJob::Options& options, Record* record, const volatile int32_t* cancel = nullptr) {
  return pool->submit(std::make_shared<PooledJob>(new CheckedJob(options, record), options.workers, cancel, [record](Status status) {
    record->status = int(status);
    record->done++;
  }));
}

// Opens once, for all who wait; false where nobody opened it in ten seconds.
class Gate {
 public:
  void open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_open_ = true;
    opened_.notify_all();
  }
  bool wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    return opened_.wait_for(lock, std::chrono::seconds(10), [this] { return is_open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool is_open_ = false;
};

bool ended(const Record& record, Status status) { return record.done == 1 && record.status == int(status) && record.wrong == 0; }

}  // namespace

TEST(phases, "every unit of every phase runs once, each phase after the one before, with 1 to 8 workers on 1 to 8 threads") {
  for (uint32_t threads = 1; threads <= 8; threads++) {
    for (uint32_t workers = 1; workers <= 8; workers++) {
      for (const std::vector<uint32_t>& units : {std::vector<uint32_t>{}, {0}, {1}, {40}, {0, 7, 0, 0, 30, 1}, {3, 0}, {5, 5, 5, 5, 5, 5}}) {
        Record record;
        {
          WorkerPool pool(threads);
          CHECK(submit(&pool, {units, workers}, &record));
        }
        uint32_t sum = 0;
        for (const uint32_t count : units) sum += count;
        CHECK(ended(record, Status::kOk) && record.starts == 1 && record.runs == sum && record.settles == units.size());
      }
    }
  }
}

TEST(many_jobs, "many jobs share a pool, and destroying it lets those that are queued finish") {
  Random random{51};
  for (int round = 0; round < 10; round++) {
    std::vector<Record> records(60);
    {
      WorkerPool pool(4);
      for (Record& record : records) CHECK(submit(&pool, {{random.below(20), random.below(20)}, 1 + random.below(6)}, &record));
    }
    for (const Record& record : records) CHECK(ended(record, Status::kOk) && record.settles == 2);
  }
}

TEST(failures, "a unit, a settle or a start that fails ends the job with its status, and no later phase begins") {
  for (const uint32_t workers : {1u, 3u, 8u}) {
    for (int round = 0; round < 20; round++) {
      Record unit, settle, start;
      {
        WorkerPool pool(4);
        CHECK(submit(&pool, {{10, 10, 10}, workers, 1, round % 10}, &unit));
        CHECK(submit(&pool, {{10, 10, 10}, workers, 0, -1}, &settle));
        CHECK(submit(&pool, {{10}, workers, -1, -1, true}, &start));
      }
      CHECK(ended(unit, Status::kCorrupt) && unit.settles == 1 && unit.runs >= 11 && unit.runs <= 20);
      CHECK(ended(settle, Status::kUnsupported) && settle.settles == 1 && settle.runs == 10);
      CHECK(ended(start, Status::kOutOfMemory) && start.runs == 0);
    }
  }
}

TEST(cancelling, "a job whose flag is set runs no further unit and ends as cancelled") {
  for (const uint32_t workers : {1u, 4u}) {
    alignas(4) volatile int32_t cancel = 0;
    Record before, within, beside;
    {
      WorkerPool pool(4);
      const volatile int32_t set = 1;
      CHECK(submit(&pool, {{50}, workers, -1, -1, false, [&] { __atomic_store_n(&cancel, 1, __ATOMIC_RELAXED); }}, &within, &cancel));
      CHECK(submit(&pool, {{50, 50}, workers}, &before, &set));
      CHECK(submit(&pool, {{50}, workers}, &beside));
      while (before.done == 0) std::this_thread::yield();  // `set` must outlive it
    }
    CHECK(ended(before, Status::kCancelled) && before.runs == 0 && before.settles == 0);
    CHECK(ended(within, Status::kCancelled) && within.runs >= 1 && within.runs <= workers && within.settles == 0);
    CHECK(ended(beside, Status::kOk) && beside.runs == 50);
  }
}

TEST(full_queue, "a job that finds the queue full is not taken, and is taken once there is room") {
  Gate gate;
  std::vector<Record> records(WorkerPool::kMaxQueued + 2);
  {
    WorkerPool pool(1);
    Gate running;
    CHECK(submit(&pool, {{1}, 1, -1, -1, false, [&] { running.open(), gate.wait(); }}, &records[0]));
    CHECK(running.wait());
    for (size_t i = 1; i <= WorkerPool::kMaxQueued; i++) CHECK(submit(&pool, {{1}, 1}, &records[i]));
    CHECK(!submit(&pool, {{1}, 1}, &records.back()));
    gate.open();
    while (records[1].done == 0) std::this_thread::yield();
    CHECK(submit(&pool, {{1}, 1}, &records.back()));
  }
  for (const Record& record : records) CHECK(ended(record, Status::kOk));
}

TEST(side_by_side, "two jobs of one worker each run at the same time on two threads") {
  Record first, second;
  Gate gate;
  bool met = false;
  {
    WorkerPool pool(2);
    Gate running;
    CHECK(submit(&pool, {{1}, 1, -1, -1, false, [&] { running.open(), met = gate.wait(); }}, &first));
    CHECK(running.wait());
    CHECK(submit(&pool, {{1}, 1, -1, -1, false, [&] { gate.open(); }}, &second));
  }
  CHECK(met && ended(first, Status::kOk) && ended(second, Status::kOk));
}
