import type { Plant } from './database.ts'

/** Faults of the ledger that a simulation must find, each of a kind that has cost others their runs. */
export const plants: readonly Plant[] = [
  {
    name: 'a success with an old fence is taken',
    in: 'complete_step',
    from: `and state = 'running' and fence = p_fence for update`,
    to: `and state = 'running' for update`,
  },
  {
    name: 'a failure with an old fence is taken',
    in: 'fail_step',
    from: `and state = 'running' and fence = p_fence for update`,
    to: `and state = 'running' for update`,
  },
  {
    name: 'a claim writes down what was ready a moment ago',
    in: 'claim_steps',
    from: `and x.queue = t.queue and x.state = 'ready'), 'infinity')`,
    to: `and x.queue = t.queue and x.state = 'ready' and x.ready_at < clock_timestamp() - interval '1 s'), 'infinity')`,
  },
  {
    name: 'a run ends before its last step',
    in: 'settle',
    from: 'if v_pending = 0 then',
    to: 'if v_pending <= 1 then',
  },
  {
    name: 'a step that is given back keeps its slot',
    in: 'release_step',
    from: 'set running = running - 1,',
    to: 'set running = running,',
  },
  {
    name: 'what a skipped step would have started is forgotten',
    in: 'settle',
    from: 'v_work := v_work || d.step_key;',
    to: 'null;',
  },
  {
    name: 'a lease is taken back although it runs',
    in: 'reap',
    from: 'lease_until < clock_timestamp()',
    to: 'true',
  },
  {
    name: 'a group admits one run too many',
    in: 'admit_run',
    from: 'if v_active >= r.concurrency_limit then',
    to: 'if v_active > r.concurrency_limit then',
  },
  {
    name: 'a settled run is opened again',
    in: 'begin_cancel',
    from: `if v_state is null or v_state not in ('queued', 'running') then return v_state; end if;`,
    to: 'if v_state is null then return v_state; end if;',
  },
  {
    name: 'the end of a run is not told to the step that waits for it',
    in: 'settle',
    from: 'if r.parent_run_id is not null then',
    to: 'if false then',
  },
  {
    name: 'a repeated start makes a second run',
    in: 'start_run',
    from: 'if v_key is not null then',
    to: 'if false then',
  },
  {
    name: 'a cancel leaves what waits in its group',
    in: 'begin_cancel',
    from: `or (v_waiting and state = 'blocked' and unmet = 0)`,
    to: '',
  },
]
