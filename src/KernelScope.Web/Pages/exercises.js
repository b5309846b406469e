// The texts of the exercises; what is right of the sign is JSON, which a copy with recorded answers is made from.
export const exercises =
{
  "themes": [
    ["Tale", "Once upon a time there lived a girl who loved the river. More than anything she wished for a golden ring."],
    ["Scripture", "And I said unto thee, Fear the LORD thy God, and thou shalt live."],
    ["C#", "public int Add(int left, int right)\n{\n    return left + right;\n}"],
    ["Recipe", "Mix the flour with two eggs, add a pinch of salt and bake the cake for 30 minutes."],
    ["Temperatures", "Vienna: cloudy, 10 °C. Oslo: snow, 3 °C. Madrid: sunny, 28 °C."]
  ],
  "recorded": [
    ["A text for the task", "Once upon a time a girl lived near the mill. She wished for a ring. More than anything she wished for a golden ring."]
  ],
  "task": 1738,
  "analyze": {
    "feature": 320,
    "texts": ["I said unto thee when thou wast in thy blood, Live.", "And thou shalt love thy neighbour, for thou art his keeper.", "She asked her sister, “What do you want?”", "And the LORD said unto Moses, Go unto the people."]
  },
  "puzzles": [
    [1417, "Vienna: cloudy, 10 °C. Oslo: snow, 3 °C."],
    [382, "One day he lost his iron crown. More than anything he wished for a white horse."],
    [1469, "She went to the forest with her grandmother and his uncle."]
  ],
  "wrong": {
    "feature": 1738,
    "texts": ["Once upon a time a girl lived near the mill. More than anything she wished for a ring.", "Once upon a time a boy lived near the mill. More than anything he wished for a ring."]
  },
  "new_tokens": 40,
  "dense": 0.2
};
