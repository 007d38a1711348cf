-- Tasks that an executor has before they are launched.
INSERT INTO kinds VALUES
  (17, 'offered', '{"outputs": the number of the outputs folder that it will have}');
