//go:build !kafka
package kafka
import ("testing";"time")
func TestZZ(t *testing.T){
 t0:=time.Now(); lap:=func(w string){t.Log(w,time.Since(t0)); t0=time.Now()}
 b:=newBed(t); lap("bed")
 tp:=b.topic(1); lap("topic")
 s:=b.own("c",tp); lap("own")
 b.restore(s,Mark{}); lap("restore")
 x:=NewBatch(); b.change(x,"c",tp,"k","v"); b.commit(s,x); lap("commit")
 b.commit(s,x); lap("commit2")
 s.Close(); lap("close")
 b.values(tp.Topic); lap("read")
}
