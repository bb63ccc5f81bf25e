-- Signed deliveries from outside that were taken, by the id of their signature, until it could be good no more: a repeat of
-- one is refused whichever process it reaches.
create table app.seen_delivery (
  id text primary key check (length(id) between 1 and 255),
  ends_at timestamptz not null
);
--> statement-breakpoint
create index seen_delivery_end on app.seen_delivery (ends_at);
--> statement-breakpoint
grant select, insert, update, delete on app.seen_delivery to tributary_api, tributary_worker;
