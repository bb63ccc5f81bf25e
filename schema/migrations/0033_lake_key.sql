-- The key of a tenant's lake is version 0 beside the versions of its data key: no rotation of that one may touch it, for
-- nothing seals a whole lake anew.
alter table app.tenant_key drop constraint tenant_key_state_check;
--> statement-breakpoint
alter table app.tenant_key add constraint tenant_key_state_check check (
  state = 'destroyed' or (state = 'lake' and version = 0) or (state in ('current', 'retired') and version > 0));
--> statement-breakpoint
-- Tenants from before have none: the worker that first needs one makes it, and makes and changes nothing else here.
grant insert on app.tenant_key to tributary_worker;
--> statement-breakpoint
create policy lake_key on app.tenant_key as restrictive for insert to tributary_worker
  with check (version = 0 and state = 'lake');
