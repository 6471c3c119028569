"use strict";
// A choice is one way to have questions answered: the first or the last group of a run's training, or an evaluation.

(() => {
  avst.makeChoices = (index) => {
    const run = (set) => (index.runs.length > 1 ? `${index.runs[set.run].name}: ` : "");
    const again = (i) => index.questions.some((row) => row[4].filter(([set]) => set === i).length > 1);
    avst.choices = index.sets.flatMap((set, i) => set.kind === "training"
      ? [{ key: `${i}l`, set: i, pick: "last", run: set.run, label: `${run(set)}training${again(i) ? ", last group" : ""}` },
        again(i) && { key: `${i}f`, set: i, pick: "first", run: set.run, label: `${run(set)}training, first group` }].filter(Boolean)
      : [{ key: `${i}`, set: i, pick: "last", run: set.run, label: `${run(set)}${set.split === "eval" ? "held out" : set.split}, ${set.name}` }]);
  };

  avst.choice = (key) => avst.choices.find((c) => c.key === key) || null;

  // The group of a choice among groups with set and step;  step: another one of the same set, null for the choice's own.
  avst.pick = (groups, choice, step = null) => {
    if (!choice) return null;
    const mine = groups.filter((g) => g.set === choice.set);
    const asked = step === null ? null : mine.find((g) => g.step === step);
    return asked || mine[choice.pick === "first" ? 0 : mine.length - 1] || null;
  };

  // The index has a question's groups as [set, step, answers, lowest, mean, highest].
  avst.summary = (row, choice) => {
    const found = choice && avst.pick(row[4].map(([set, step, n, low, mean, high]) => ({ set, step, n, low, mean, high })), choice);
    return found || null;
  };

  // What is compared when nobody says with what: the other run's same kind, else this run's earlier answers.
  avst.partner = (choice, index) => {
    if (!choice) return null;
    const kind = (c) => `${index.sets[c.set].kind}${index.sets[c.set].kind === "training" ? c.pick : index.sets[c.set].split}`;
    const other = avst.choices.filter((c) => c.run !== choice.run && kind(c) === kind(choice));
    if (other.length) return other.find((c) => index.sets[c.set].name === index.sets[choice.set].name) || other[other.length - 1];
    if (index.sets[choice.set].kind === "training") {
      return avst.choices.find((c) => c.set === choice.set && c.pick !== choice.pick) || null;
    }
    return avst.choices.find((c) => c.set !== choice.set && c.run === choice.run && kind(c) === kind(choice)) || null;
  };
})();
