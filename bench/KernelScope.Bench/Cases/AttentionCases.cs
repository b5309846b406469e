using KernelScope.Bench.Peers;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Measuring;

namespace KernelScope.Bench.Cases;

/// <summary>Attention of one layer over its cache: one query late in a long context, and whole prefills.</summary>
internal static class AttentionCases
{
    public static IEnumerable<Case> All()
    {
        foreach (int window in (int[])[0, Shape2B.Window])
        {
            yield return Attend(1, 8000, window);
            yield return Attend(512, 0, window);
            yield return Attend(2048, 0, window);
            yield return Attend(512, 7680, window);
            yield return Attend(8192, 0, window);
        }
    }

    private static Case Attend(int rows, int position, int window)
    {
        double keys = 0;
        for (int t = 0; t < rows; t++)
            keys += Seen(position + t, window);
        (Bound bound, double work) = rows == 1
            ? (Bound.Bandwidth, keys * Shape2B.KvHeads * Shape2B.HeadDim * 2 * sizeof(float))
            : (Bound.Peak, keys * Shape2B.Heads * Shape2B.HeadDim * 4);
        string kind = window > 0 ? "sliding" : "global";
        return new Case($"attend {rows} at {position} {kind} exact", bound, work, machine => Prepare(machine, rows, position, window));
    }

    private static Contest Prepare(Machine machine, int rows, int position, int window)
    {
        int capacity = position + rows;
        float[] keys = RandomValues.Create(Shape2B.KvHeads * capacity * Shape2B.HeadDim, 1), values = [.. keys.Reverse()];
        float[] queries = RandomValues.Create(rows * Shape2B.Z, 1);
        var ours = new OurAttention(machine.Exact, queries, keys, values, rows, position, window);
        var contest = new Contest(ours.Contestant("KernelScope"));
        contest.Own(ours);
        if (window > 0 && position > window)
        {
            // What a window is for: far behind its end a layer costs what it costs at its end.
            int near = Shape2B.KvHeads * (window + rows) * Shape2B.HeadDim;
            OurAttention atWindow =
                contest.Own(new OurAttention(machine.Exact, queries, keys[..near], values[..near], rows, window, window));
            contest.Peers.Add(new Peer(atWindow.Contestant($"KernelScope at {window}"), Agreement.Unasked));
        }

        Torch.Join(contest, machine, () =>
        {
            foreach (DType type in (ReadOnlySpan<DType>)[DType.F32, DType.BF16])
            {
                TorchAttention theirs = contest.Own(new TorchAttention(queries, keys, values, rows, position, window, type));
                contest.Peers.Add(new Peer(theirs.Contestant, Agreement.Within(type == DType.F32 ? 1e-4 : 5e-2)));
            }
        });
        return contest;
    }

    private static int Seen(int position, int window) => window > 0 ? Math.Min(position + 1, window) : position + 1;

    /// <summary>A layer's attention at a position, with a cache of all keys up to it.</summary>
    private sealed class OurAttention : IDisposable
    {
        private readonly Device _device;
        private readonly Mat _keys;
        private readonly Mat _values;
        private readonly Mat _queries;
        private readonly Mat _z;
        private readonly Action _attend;

        public OurAttention(Device device, float[] queries, float[] keys, float[] values, int rows, int position, int window)
        {
            int capacity = position + rows;
            _device = device;
            _keys = device.Mat(keys, Shape2B.KvHeads * capacity);
            _values = device.Mat(values, Shape2B.KvHeads * capacity);
            _queries = device.Mat(queries, rows);
            _z = device.CreateMat(rows, Shape2B.Z, "z");
            var cache = new KvLayer(_keys, _values, Shape2B.KvHeads, capacity);
            var shape = new AttentionShape(Shape2B.Heads, 1 / 16f, Shape2B.Softcap, window);
            _attend = () => device.Attend(_queries, cache, position, shape, _z);
        }

        public Contestant Contestant(string name) => new(name, _attend, () => _device.Read(_z));

        public void Dispose()
        {
            foreach (Mat mat in (ReadOnlySpan<Mat>)[_keys, _values, _queries, _z])
                mat.Buffer.Dispose();
        }
    }
}
