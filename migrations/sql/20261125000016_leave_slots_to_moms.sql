-- A MoM tells the slot, since a function that computes it at each append costs a tenth of the statement.
drop function content_slot(double precision);
