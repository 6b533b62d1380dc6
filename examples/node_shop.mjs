// A Node shop that refunds through Refundry and loses no refund: a transactional outbox and a relay.
//
// The return and the refund job are written in one transaction of the shop's own PostgreSQL (`npm install pg`):
//
//   CREATE TABLE returns (number text PRIMARY KEY, refund text, problem text);
//   CREATE TABLE outbox (id bigserial PRIMARY KEY, job jsonb NOT NULL);
//
// The relay sends what lies in the outbox until Refundry has it. It may be killed at any moment and run twice: the
// `reference` makes a repeat safe.

/** The shop's own business. No HTTP in here: either both rows are there, or neither. `pool`: a pg.Pool. */
export async function acceptReturn(pool, number, { payment, paid, amount }) {
  const job = {
    reference: number,
    account: "jp-store",
    payment: { id: payment, amount: paid, currency: "JPY" },
    amount,
    currency: "JPY",
  };
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    await client.query("INSERT INTO returns (number) VALUES ($1)", [number]);
    await client.query("INSERT INTO outbox (job) VALUES ($1)", [JSON.stringify(job)]);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

/** The outbox in PostgreSQL, as `relay` wants it. */
export function outboxOf(pool) {
  return {
    waiting: async () => (await pool.query("SELECT id, job FROM outbox ORDER BY id LIMIT 100")).rows,
    done: (row, { refund = null, problem = null }) =>
      pool.query(
        "WITH gone AS (DELETE FROM outbox WHERE id = $1) UPDATE returns SET refund = $3, problem = $4 WHERE number = $2",
        [row.id, row.job.reference, refund, problem],
      ),
  };
}

/** Send what waits, oldest first; call it again and again. True once nothing is left. */
export async function relay(outbox, { url, key }) {
  for (const row of await outbox.waiting()) {
    const answer = await ask(row.job, { url, key });
    if (answer === null) return false; // unreachable, or asked to come back later: the row stays
    await outbox.done(row, answer);
  }
  return true;
}

/** The final answer for this job, or null where it must be sent again. */
async function ask(job, { url, key }) {
  try {
    const answer = await fetch(`${url}/v1/refunds`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}` },
      body: JSON.stringify(job),
      signal: AbortSignal.timeout(30_000),
    });
    const body = await answer.json();
    if (answer.status === 202) return { refund: body.id };
    if (answer.status === 401 || answer.status === 403) return null; // a key that is wrong is for a person to mend
    return body.retryable === false ? { problem: JSON.stringify(body) } : null;
  } catch {
    return null;
  }
}
