-- A login that may become tributary_ledger counts as it where policies name that role, and would read all tenants before it
-- becomes anybody. What is meant is the ledger's functions, which run as that role.
do $$
declare p record; v_rule text := 'current_user = ''tributary_ledger''';
begin
  for p in select polname, polrelid::regclass as of, polcmd from pg_policy
    where polroles = array['tributary_ledger'::regrole::oid] loop
    execute format('alter policy %I on %s using (%s)', p.polname, p.of, v_rule);
    if p.polcmd <> 'r' then execute format('alter policy %I on %s with check (%s)', p.polname, p.of, v_rule); end if;
  end loop;
end $$;
