import pg from 'pg'

/** Columns of the bench's table, as a DuckDB `columns` argument names them; a row is about 128 bytes of CSV. */
export const orderColumns = {
  order_id: 'VARCHAR',
  customer_id: 'VARCHAR',
  product_id: 'VARCHAR',
  order_date: 'DATE',
  amount: 'DECIMAL(10,2)',
  qty: 'INTEGER',
  status: 'VARCHAR',
  note: 'VARCHAR',
  updated_at: 'TIMESTAMPTZ',
} as const

/** The query that both sides of the bench read. */
export const ordersQuery = `SELECT ${Object.keys(orderColumns).join(', ')} FROM orders`

/** Makes `orders` with so many rows, the same ones each time: quotes, commas and NULLs among them. */
export async function makeOrders(url: string, rows: number): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query('drop table if exists orders')
  await client.query(`
    create unlogged table orders as
    select 'ORD' || lpad(i::text, 9, '0') as order_id, 'CUST' || (i * 7919 % 100000) as customer_id, 'PROD' || (i * 31 % 5000) as product_id,
      date '2024-01-01' + (i % 730)::int as order_date, ((i * 37 % 1000000) / 100.0)::numeric(10, 2) as amount, (i % 50)::int as qty,
      (array['new', 'paid', 'shipped', 'returned'])[1 + i % 4] as status,
      case when i % 20 = 0 then null else 'note, "q" ' || md5(i::text) end as note,
      timestamptz '2024-01-01 00:00:00+00' + i * interval '1 second' as updated_at
    from generate_series(1, ${rows}::bigint) i`)
  await client.query('vacuum analyze orders')
  await client.end()
}
