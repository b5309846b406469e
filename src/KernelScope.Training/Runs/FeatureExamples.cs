using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Training.Runs;

/// <summary>
/// Places where each feature fires. The strongest: by value descending, then sequence, then position; of places whose windows hold the
/// same tokens the first in that order only.
/// Random ones: those with the smallest hash of (seed, feature, sequence, position), which any order of shards gives alike.
/// </summary>
internal sealed class FeatureExamples
{
    private readonly int _features;
    private readonly int _window;
    private readonly ulong _seed;
    private readonly Best _top;
    private readonly Best _random;

    public FeatureExamples(int features, int top, int random, int window, ulong seed)
    {
        (_features, _window, _seed) = (features, window, seed);
        _top = new Best(features, top);
        _random = new Best(features, random);
    }

    /// <summary>What is written; places that are not filled have sequence −1.</summary>
    public TensorInfo[] Tensors => [.. _top.Tensors("top", _features), .. _random.Tensors("random", _features)];

    /// <summary>Adds a shard.</summary>
    public void Add(CodeShard codes, TokenShard tokens)
    {
        for (int r = 0; r < codes.Rows; r++)
        {
            int sequence = codes.Sequence[r], position = codes.Position[r];
            ulong? window = null;
            for (long i = codes.RowStart[r]; i < codes.RowStart[r + 1]; i++)
            {
                int feature = codes.Feature[i];
                float value = codes.Value[i];
                if (_top.MayTake(feature, -value))
                    _top.Take(feature, new Place(-value, value, sequence, position, window ??= WindowHash(tokens, sequence, position)));
                // The place itself tells random ones apart: equal windows stay, as they are as likely as they are frequent.
                double order = Hash(feature, sequence, position) * Math.Pow(2, -64);
                if (_random.MayTake(feature, order))
                    _random.Take(feature, new Place(order, value, sequence, position, ((ulong)(uint)sequence << 32) | (uint)position));
            }
        }
    }

    /// <summary>Writes it.</summary>
    public void Write(SafetensorsWriter writer)
    {
        _top.Write(writer);
        _random.Write(writer);
    }

    private ulong Hash(int feature, int sequence, int position)
    {
        ulong h = SplitMix64.Mix(_seed ^ (ulong)feature);
        h = SplitMix64.Mix(h ^ (ulong)sequence);
        // The 53 upper bits are exact in a double.
        return SplitMix64.Mix(h ^ (ulong)position) & ~0x7FFUL;
    }

    private ulong WindowHash(TokenShard tokens, int sequence, int position)
    {
        int[] ids = tokens.Sequences[sequence - tokens.FirstSequence];
        ulong h = (ulong)(position - Math.Max(0, position - _window));
        for (int t = Math.Max(0, position - _window); t <= Math.Min(ids.Length - 1, position + _window); t++)
            h = SplitMix64.Mix(h ^ (ulong)ids[t]) + SplitMix64.Step;
        return h;
    }

    /// <summary>A place; smaller orders come first.</summary>
    private readonly record struct Place(double Order, float Value, int Sequence, int Position, ulong Window)
    {
        public bool Before(in Place other) => Order != other.Order ? Order < other.Order : Sequence != other.Sequence
            ? Sequence < other.Sequence : Position < other.Position;
    }

    /// <summary>The first k places of each feature, in order, each window once.</summary>
    private sealed class Best(int features, int most)
    {
        private readonly Place[] _places = new Place[checked(features * most)];
        private readonly int[] _count = new int[features];

        public TensorInfo[] Tensors(string name, int count) =>
        [
            new TensorInfo($"{name}_value", DType.F32, [count, most]), new TensorInfo($"{name}_sequence", DType.I32, [count, most]),
                new TensorInfo($"{name}_position", DType.I32, [count, most]),
        ];

        public bool MayTake(int feature, double order) => most > 0 && (_count[feature] < most
            || order <= _places[(feature * most) + most - 1].Order);

        public void Take(int feature, in Place place)
        {
            Span<Place> list = _places.AsSpan(feature * most, most);
            int count = _count[feature], same = 0;
            while (same < count && list[same].Window != place.Window)
                same++;
            if (same < count && !place.Before(list[same]))
                return;
            // The place that goes: the one with the same window, or the last of a full list.
            int hole = same < count ? same : Math.Min(count, most - 1);
            if (same == count && count == most && !place.Before(list[most - 1]))
                return;
            _count[feature] = same < count ? count : Math.Min(count + 1, most);
            while (hole > 0 && place.Before(list[hole - 1]))
            {
                list[hole] = list[hole - 1];
                hole--;
            }

            list[hole] = place;
        }

        public void Write(SafetensorsWriter writer)
        {
            int size = _places.Length;
            writer.Append<float>([.. Enumerable.Range(0, size).Select(i => IsFilled(i) ? _places[i].Value : 0)]);
            writer.Append<int>([.. Enumerable.Range(0, size).Select(i => IsFilled(i) ? _places[i].Sequence : -1)]);
            writer.Append<int>([.. Enumerable.Range(0, size).Select(i => IsFilled(i) ? _places[i].Position : -1)]);
        }

        private bool IsFilled(int i) => i % most < _count[i / most];
    }
}
