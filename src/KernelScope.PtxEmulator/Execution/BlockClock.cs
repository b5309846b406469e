using System.Numerics;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>
/// What each warp of a block knows to have happened: a vector clock per warp, advanced by barriers. An access stamped (warp v, clock c) happened
/// before what warp w does now if w has seen clock c of v.
/// </summary>
internal sealed class BlockClock
{
    /// <summary>Stamps hold 20 bits of clock; a block that reaches half of it starts afresh at its next full barrier.</summary>
    public const uint Limit = 1 << 20;

    private readonly uint[] _seen = new uint[32 * 32];
    private readonly uint[] _now = new uint[32];
    private readonly uint[] _lastSync = new uint[32];

    /// <summary>Number of barriers completed, of any kind.</summary>
    public uint Generation { get; private set; }

    public void Reset()
    {
        Array.Clear(_seen);
        Array.Clear(_lastSync);
        Array.Fill(_now, 1u);
        Generation = 1;
    }

    public uint Now(int warp) => _now[warp];

    /// <summary>Generation at the warp's last barrier.</summary>
    public uint LastSync(int warp) => _lastSync[warp];

    public bool HasSeen(int warp, int other, uint clock) => clock <= _seen[warp * 32 + other];

    /// <summary>Clocks are so high that they should start afresh.</summary>
    public bool IsOld => Generation > Limit / 2 || Array.Exists(_now, n => n > Limit / 2);

    /// <summary>The lanes of a warp have synchronised among themselves. A clock that has run out stands still, and races of its warp are missed.</summary>
    public void SyncWarp(int warp)
    {
        _seen[warp * 32 + warp] = _now[warp];
        if (_now[warp] < Limit - 1)
            _now[warp]++;
    }

    /// <summary>A barrier that <paramref name="arrived"/> reached and <paramref name="waited"/> waited at.</summary>
    public void Sync(uint arrived, uint waited)
    {
        Generation++;
        Span<uint> all = stackalloc uint[32];
        all.Clear();
        for (uint rest = arrived; rest != 0; rest &= rest - 1)
        {
            int warp = BitOperations.TrailingZeroCount(rest);
            for (int other = 0; other < 32; other++)
                all[other] = Math.Max(all[other], _seen[warp * 32 + other]);
            all[warp] = Math.Max(all[warp], _now[warp]);
        }
        for (uint rest = arrived; rest != 0; rest &= rest - 1)
        {
            int warp = BitOperations.TrailingZeroCount(rest);
            if ((waited >> warp & 1) != 0)
            {
                all.CopyTo(_seen.AsSpan(warp * 32, 32));
                _lastSync[warp] = Generation;
            }
            else
            {
                _seen[warp * 32 + warp] = _now[warp];
            }
            if (_now[warp] < Limit - 1)
                _now[warp]++;
        }
    }
}
