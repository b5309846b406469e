using KernelScope.Bench.Cases;
using KernelScope.Files;
using KernelScope.Measuring;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace KernelScope.Bench.Peers;

/// <summary>The products of a layer by libtorch: q, k and v fused, gate and up fused, weights [out, in] as its linear wants them.</summary>
internal sealed class TorchProducts : IDisposable
{
    private readonly Tensor _qkv;
    private readonly Tensor _o;
    private readonly Tensor _gateUp;
    private readonly Tensor _down;

    public TorchProducts(RandomTensors tensors, string layer, DType type)
    {
        _qkv = Torch.Of(tensors[$"{layer}.qkv"], type);
        _o = Torch.Of(tensors[$"{layer}.o"], type);
        _gateUp = Torch.Of(tensors[$"{layer}.gate_up"], type);
        _down = Torch.Of(tensors[$"{layer}.down"], type);
    }

    /// <summary>One product.</summary>
    public Tensor One(string name, Tensor x) => name switch
    {
        "qkv" => functional.linear(x, _qkv),
        "o" => functional.linear(x, _o),
        "gate_up" => GateUp(x),
        "down" => functional.linear(x, _down),
        _ => throw new ArgumentOutOfRangeException(nameof(name)),
    };

    /// <summary>All of them; the result is the last one's.</summary>
    public Tensor Layer(Tensor x, Tensor z)
    {
        functional.linear(x, _qkv);
        functional.linear(z, _o);
        return functional.linear(GateUp(x), _down);
    }

    public void Dispose()
    {
        _qkv.Dispose();
        _o.Dispose();
        _gateUp.Dispose();
        _down.Dispose();
    }

    private Tensor GateUp(Tensor x)
    {
        Tensor both = functional.linear(x, _gateUp);
        Tensor gate = both.narrow(-1, 0, Shape2B.Mlp), up = both.narrow(-1, Shape2B.Mlp, Shape2B.Mlp);
        return functional.gelu(gate, TorchSharp.Modules.GELU.Approximate.tanh).mul_(up);
    }
}
