-- Usage of every customer is announced, so no channel has a watch on it. The index goes with its column.
alter table realtime_channels drop column watch_key;
delete from watches where kind = 'realtime';
