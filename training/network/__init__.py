"""Networks: their options, scaling, calendar input, losses and output heads; the architectures are in a package of their own."""
