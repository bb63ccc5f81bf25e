-- Roles own no tenant table and bypass nothing. A session that may become one of them does so per transaction.
--   tributary_api     the control plane: one tenant per transaction, reads the ledger, never writes it by hand
--   tributary_worker  the workers: the ledger's functions, and one tenant at a time for what a step needs
--   tributary_ledger  owner of the functions that look across tenants; nobody logs in as it
do $$
declare r text;
begin
  foreach r in array array['tributary_api', 'tributary_worker', 'tributary_ledger'] loop
    if not exists (select from pg_roles where rolname = r) then
      execute format('create role %I nologin nosuperuser nobypassrls nocreatedb nocreaterole', r);
    end if;
    execute format('grant %I to current_user', r);
  end loop;
end $$;
--> statement-breakpoint
create schema if not exists app;
--> statement-breakpoint
grant usage on schema app to tributary_api, tributary_worker, tributary_ledger;
