//! Golden tests of Services, routes and checks.
