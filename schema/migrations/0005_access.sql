-- An erased person keeps the id, for what the audit log says of it, and gives the address back.
alter table app.tenant_user drop constraint tenant_user_status_check;
--> statement-breakpoint
alter table app.tenant_user add constraint tenant_user_status_check check (status in ('invited', 'active', 'deactivated', 'deleted'));
--> statement-breakpoint
alter table app.tenant_user drop constraint tenant_user_tenant_id_email_key;
--> statement-breakpoint
create unique index tenant_user_email on app.tenant_user (tenant_id, lower(email)) where status <> 'deleted';
--> statement-breakpoint
-- Onboarding left its administrator invited, and nothing could activate a person. The owner of the tables obeys row-level
-- security as well, hence the pauses here and below.
alter table app.tenant_user no force row level security;
--> statement-breakpoint
update app.tenant_user set status = 'active' where status = 'invited';
--> statement-breakpoint
alter table app.tenant_user force row level security;
--> statement-breakpoint
alter table app.api_key add column replaced_by text;
--> statement-breakpoint
-- Rights that were part of tenant:read and platform:admin have names of their own now: keys keep what they could do.
alter table app.api_key no force row level security;
--> statement-breakpoint
update app.api_key set scopes = scopes || array(select s from unnest(array['users:read', 'keys:read']) s where s <> all (scopes))
  where 'tenant:read' = any (scopes) or 'platform:admin' = any (scopes);
--> statement-breakpoint
update app.api_key set scopes = scopes || array['platform:read', 'platform:audit'] where 'platform:admin' = any (scopes);
--> statement-breakpoint
alter table app.api_key force row level security;
--> statement-breakpoint
-- The control plane asks for mail to people, and takes it back with the person; what steps asked for it cannot touch.
grant insert (tenant_id, id, kind, dedupe_key, payload), delete on app.outbox to tributary_api;
--> statement-breakpoint
create policy api_insert on app.outbox as restrictive for insert to tributary_api with check (dedupe_key like 'user.%');
--> statement-breakpoint
create policy api_delete on app.outbox as restrictive for delete to tributary_api using (dedupe_key like 'user.%');
