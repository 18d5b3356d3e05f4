"""What happens: submit, sync calls, tracking, settlement, tenants. Sees the outside through ports only."""
